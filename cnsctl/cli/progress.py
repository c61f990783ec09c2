"""Progress on stderr: on a terminal one line that is rewritten, in a log a line per phase and one a minute.

Owns the time that is left, and these lines; must not know where results go.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from cnsctl.events import Denoised, ImageReady, Phase, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Clock = Callable[[], float]

_BAR = 24
"""Columns of the bar."""

_WIDE = 72
"""Columns that a terminal needs for a bar beside the text."""

_NARROW = 56
"""Columns below which the loss is also left out."""

LOG_EVERY_S = 60.0
"""Seconds between two lines of one phase in a log."""


class View(Protocol):
    """Shows how far the work is."""

    def update(self, event: Phase | Step | Denoised | ImageReady) -> None:
        """Show an event."""
        ...

    def paused(self) -> Any:
        """A context in which other lines are printed."""
        ...

    def stop(self) -> None:
        """Show nothing until the next phase."""
        ...


class Pace:
    """How far a phase is, and how long the rest of it takes if it continues as it did so far."""

    def __init__(self, phase: Phase, clock: Clock) -> None:
        self.name, self.total, self.clock = phase.name, phase.total, clock
        self.unit = "" if phase.unit is None else f" {phase.unit}"
        self.done, self.detail = 0, ""
        self.began_s = self._at_s = clock()
        self._whole_s: float | None = None

    def take(self, event: Step | Denoised | ImageReady) -> None:
        """Count an event of the phase."""
        part = 0.0
        match event:
            case Step(step=step, total=total, loss=loss):
                self.done, self.total = step, total
                self.detail = "" if loss is None else f"loss {loss:.3f}"
            case Denoised(step=step, total=total, images=images):
                part, self.detail = images * step / total, f"step {step}/{total}"
            case ImageReady():
                self.done += 1
        self._at_s = self.clock()
        if self.total and self.done + part > 0:
            self._whole_s = (self._at_s - self.began_s) * self.total / (self.done + part)

    @property
    def count(self) -> str:
        """`3/10`, or `3/100 %`; empty without a count."""
        return f"{self.done}/{self.total}{self.unit}" if self.total else ""

    @property
    def passed_s(self) -> float:
        """Seconds since the phase began."""
        return self.clock() - self.began_s

    @property
    def left_s(self) -> float | None:
        """Seconds until the end of the phase; None until it has done something."""
        return None if self._whole_s is None else max(0.0, self._whole_s - self.passed_s)


def clock_time(seconds: float) -> str:
    """`0:07`, `12:00` or `1:05:00`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class Log:
    """Lines for a file: one when a phase begins, and one a minute while it lasts.

    Args:
        write: prints a line.
        clock: in seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Clock = time.monotonic) -> None:
        self.write, self.clock = write, clock
        self.pace: Pace | None = None
        self._due_s = 0.0

    def update(self, event: Phase | Step | Denoised | ImageReady) -> None:
        if isinstance(event, Phase):
            is_new = self.pace is None or event.name != self.pace.name
            self.pace = Pace(event, self.clock)
            if is_new:  # a stream of prompts is one phase per prompt, of one name
                self._line(event.name, self.pace.count)
        elif self.pace is not None:
            self.pace.take(event)
            if self.clock() >= self._due_s:
                self._line(self.pace.name, *self._so_far(self.pace))

    def _so_far(self, pace: Pace) -> tuple[str, ...]:
        left = "" if pace.left_s is None else f"{clock_time(pace.left_s)} left"
        return (pace.count, pace.detail, left)

    def _line(self, name: str, *parts: str) -> None:
        self._due_s = self.clock() + LOG_EVERY_S
        shown = ", ".join(part for part in parts if part)
        self.write(f"{name}: {shown}" if shown else name)

    @contextmanager
    def paused(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        pass


class Progress:
    """A line that is shown during a phase, below everything else that is printed."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.bar: Any = None
        self.task: Any = None
        self.pace: Pace | None = None

    def update(self, event: Phase | Step | Denoised | ImageReady) -> None:
        if isinstance(event, Phase):
            self.stop()
            self.pace = Pace(event, self.clock)
            self._begin(self.pace)
        elif self.bar is not None and self.pace is not None:
            self.pace.take(event)
            count, detail = self.pace.count, self.pace.detail
            self.bar.update(self.task, completed=self.pace.done, total=self.pace.total, count=count, detail=detail)

    def _begin(self, pace: Pace) -> None:
        from rich import progress as rich
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Column
        from rich.text import Text

        class Left(rich.ProgressColumn):
            """Time that is left, from the steps so far; without a count, the time that has passed."""

            def render(self, task: rich.Task) -> Text:  # noqa: ARG002  the base class's signature
                if not pace.total:
                    return Text(clock_time(pace.passed_s), style="progress.elapsed")
                return Text("-:--" if pace.left_s is None else clock_time(pace.left_s), style="progress.remaining")

        console, line = Console(stderr=True), Column(no_wrap=True)
        name = pace.name
        most = len(f"{pace.total}/{pace.total}{pace.unit}")
        rest = len("⠋  ") + most + len(" 0:00:00")  # a name that fits the rest of a narrow terminal
        if len(name) > (room := max(8, console.width - rest)):
            name = f"{name[: room - 1]}…"
        bar = (rich.BarColumn(bar_width=_BAR, table_column=line),) if console.width >= _WIDE else ()
        detail = (rich.TextColumn("{task.fields[detail]}", table_column=line),) if console.width >= _NARROW else ()
        count = rich.TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True, justify="right", width=most))
        counted = (*bar, count) if pace.total else ()
        self.bar = rich.Progress(
            rich.SpinnerColumn(table_column=line),
            rich.TextColumn("{task.description}", table_column=line),
            *counted,
            Left(table_column=line),
            *detail,
            console=console,
            transient=True,
            redirect_stdout=False,  # rich would print the result on the terminal, even if stdout is a file
            redirect_stderr=False,
        )
        self.bar.start()
        self.task = self.bar.add_task(escape(name), total=pace.total, count=pace.count, detail="")

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

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
