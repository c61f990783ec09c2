"""The progress line on stderr: phase, bar, steps, time left, loss.

Owns the one line that is rewritten; must not know where results go.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cnsctl.events import Phase, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

_BAR = 24
"""Columns of the bar."""

_WIDE = 72
"""Columns that a terminal needs for a bar beside the text."""

_NARROW = 56
"""Columns below which the loss is also left out."""


class Progress:
    """A line that is shown during a phase, below everything else that is printed."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.task: Any = None

    def update(self, event: Phase | Step) -> None:
        if isinstance(event, Phase):
            self.stop()
            self._begin(event)
        elif self.bar is not None:
            detail = "" if event.loss is None else f"loss {event.loss:.3f}"
            self.bar.update(self.task, completed=event.step, total=event.total, detail=detail)

    def _begin(self, phase: Phase) -> None:
        from rich import progress as rich
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Column

        console, line = Console(stderr=True), Column(no_wrap=True)
        if console.is_dumb_terminal:
            return
        bar = (rich.BarColumn(bar_width=_BAR, table_column=line),) if console.width >= _WIDE else ()
        detail = (rich.TextColumn("{task.fields[detail]}", table_column=line),) if console.width >= _NARROW else ()
        counted = (*bar, rich.MofNCompleteColumn(table_column=line), rich.TimeRemainingColumn(table_column=line))
        self.bar = rich.Progress(
            rich.SpinnerColumn(table_column=line),
            rich.TextColumn("{task.description}", table_column=line),
            *(counted if phase.total else ()),
            *detail,
            console=console,
            transient=True,
            redirect_stdout=False,  # rich would print the result on the terminal, even if stdout is a file
            redirect_stderr=False,
        )
        self.bar.start()
        self.task = self.bar.add_task(escape(phase.name), total=phase.total, detail="")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Remove the line while others are printed, and show it again below them."""
        if self.bar is not None:
            self.bar.stop()
        try:
            yield
        finally:
            if self.bar is not None:
                self.bar.start()

    def advance(self) -> None:
        if self.bar is not None:
            self.bar.advance(self.task)

    def detail(self, text: str) -> None:
        if self.bar is not None:
            self.bar.update(self.task, detail=text)

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
