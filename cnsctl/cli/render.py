"""The only printing: answers on stdout, everything else on stderr.

Owns how events look to a person and to a program; must not know how they come about.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Self

from cnsctl.cli.lines import fitted, json_line
from cnsctl.errors import DiskProblem
from cnsctl.results import Answer, Drawn, Event, Failed, Note, Phase, Selected, Step, Warn
from cnsctl.specs import FORMAT

if TYPE_CHECKING:
    from types import TracebackType

Human = Callable[[Mapping[str, Any]], Iterable[str]]
"""An answer's data as lines for a person."""

PREVIEWS = 8
"""Pictures shown in the terminal by one call; the rest are on disk."""

PREVIEW_CELLS = 32
"""Columns of a preview; fewer where the terminal is small."""


class View:
    """Shows events as they come. Use it as a context manager: the progress line is taken away in the end."""

    def __init__(
        self, *, as_json: bool, quiet: bool, human: Human, bare: Human, lines: bool = False, previews: bool = False
    ) -> None:
        """`lines`: with --json, events are JSON lines and the answer the last; otherwise the answer is one object."""
        self.as_json, self.quiet, self.human, self.bare, self.lines = as_json, quiet, human, bare, lines
        self.progress = None if as_json or quiet or not sys.stderr.isatty() else _Progress()
        self.previews = PREVIEWS if previews and self.progress is not None else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        if self.progress is not None:
            self.progress.stop()

    def show(self, events: Iterable[Event]) -> None:
        """Show events until there are no more."""
        for event in events:
            self._show(event)

    def _show(self, event: Event) -> None:  # noqa: C901  one case per kind of event
        if self.as_json:
            self._show_json(event)
            return
        match event:
            case Phase() | Step():
                if self.progress is not None:
                    self.progress.update(event)
            case Note(text=text) if not self.quiet:
                self._say(text)
            case Warn(text=text):
                self._say(f"warning: {text}")
            case Failed(prompt=prompt, message=message):
                self._say(f"cnsctl: {prompt}: {message}")
            case Selected() if not self.quiet:
                self._say(
                    f"{event.neurons:,} neurons, {event.share:.2%} of the K/V weights; "
                    f"{event.shared:,} shared with other concepts (a random mask: {event.shared_random:,})"
                )
            case Drawn():
                self._picture(event)
            case Answer(data=data):
                if self.progress is not None:
                    self.progress.stop()
                for line in self.bare(data) if self.quiet else (fitted(h, sys.stdout) for h in self.human(data)):
                    out(line)
            case _:
                pass

    def _show_json(self, event: Event) -> None:
        if isinstance(event, Answer):
            out_json({**event.data, **({"type": "result"} if self.lines else {})})
        elif self.lines and (told := _told(event)) is not None:
            out_json({"format": FORMAT, **told})

    def _say(self, text: str) -> None:
        with self._still():
            sys.stderr.write(fitted(text, sys.stderr) + "\n")

    def _picture(self, event: Drawn) -> None:
        if event.path == "-":
            with _writing_the_answer():
                sys.stdout.buffer.write(event.png)
                sys.stdout.buffer.flush()
            return
        with self._still():
            out(event.path)
            if self.previews > 0:
                self.previews -= 1
                self._preview(event)
        if self.progress is not None:
            self.progress.advance()

    def _preview(self, event: Drawn) -> None:
        import shutil

        from cnsctl.data.terminal import preview_bytes, protocol_of

        if (protocol := protocol_of(os.environ)) is not None:
            size = shutil.get_terminal_size()
            cells = max(1, min(PREVIEW_CELLS, size.columns, 2 * (size.lines - 2)))
            sys.stderr.write(preview_bytes(event.picture, protocol=protocol, width_cells=cells))

    def rest(self) -> None:
        """Take the progress line away until there is more: a person may be typing."""
        if self.progress is not None:
            self.progress.stop()

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Let lines be written above the progress line."""
        with nullcontext() if self.progress is None else self.progress.paused():
            yield

    def tick(self, done: int, total: int) -> None:
        """A denoising step is done."""
        if self.progress is not None:
            self.progress.detail(f"step {done}/{total}")


def out(line: str) -> None:
    """One line of the answer, at once: a reader of the pipe has it when it is true."""
    with _writing_the_answer():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def out_json(data: Mapping[str, Any]) -> None:
    """One line of the answer, as JSON."""
    out(json_line(data, sys.stdout))


@contextmanager
def _writing_the_answer() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as err:
        raise DiskProblem(
            f"the standard output cannot be written: {err.strerror}",
            hint="make room, or send it elsewhere; nothing in the store is lost",
        ) from err


def table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> Iterable[str]:
    """Aligned columns with a head on a terminal; bare tab-separated fields in a pipe."""
    if not sys.stdout.isatty():
        yield from ("\t".join(row) for row in rows)
        return
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        yield "  ".join(cells).rstrip()


def _is_number(cell: str) -> bool:
    return cell in ("", "–") or cell.rstrip(" %KMGB").replace(",", "").replace(".", "").lstrip("+-−").isdigit()


def _told(event: Event) -> dict[str, Any] | None:  # noqa: PLR0911  one case per kind of event
    match event:
        case Phase(name=name, total=total):
            return {"type": "phase", "phase": name, "total": total}
        case Step(phase=phase, step=step, total=total, loss=loss):
            return {"type": "step", "phase": phase, "step": step, "total": total, "loss": loss}
        case Note(text=text):
            return {"type": "note", "text": text}
        case Warn(text=text):
            return {"type": "warning", "text": text}
        case Failed(prompt=prompt, code=code, message=message):
            return {"type": "failed", "prompt": prompt, "code": code, "message": message}
        case Drawn(path=path, seed=seed, prompt=prompt, concepts=concepts):
            return {"type": "picture", "path": path, "seed": seed, "prompt": prompt, "concepts": list(concepts)}
        case Selected():
            return {
                "type": "selected",
                "neurons": event.neurons,
                "share": event.share,
                "shared": event.shared,
                "shared_random": event.shared_random,
            }
        case _:
            return None


_BAR = 24
"""Columns of the bar."""

_WIDE = 72
"""Columns that a terminal needs for a bar beside the words and numbers."""


class _Progress:
    """One line on stderr: phase, bar, steps, time left, loss."""

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
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.table import Column

        console, line = Console(stderr=True), Column(no_wrap=True)
        if console.is_dumb_terminal:
            return
        bar = (BarColumn(bar_width=_BAR, table_column=line),) if console.width >= _WIDE else ()
        counted = (*bar, MofNCompleteColumn(table_column=line), TimeRemainingColumn(table_column=line))
        self.bar = Progress(
            SpinnerColumn(table_column=line),
            TextColumn("{task.description}", table_column=line),
            *(counted if phase.total else ()),
            TextColumn("{task.fields[detail]}", table_column=line),
            console=console,
            transient=True,
            redirect_stdout=False,  # rich would send the answer to the terminal, wherever stdout goes
            redirect_stderr=False,
        )
        self.bar.start()
        self.task = self.bar.add_task(escape(phase.name), total=phase.total, detail="")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the line away while others are written, and put it back under them: it is one line, never wrapped."""
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
