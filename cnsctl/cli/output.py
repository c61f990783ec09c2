"""The only printing: answers on stdout, everything else on stderr.

Owns how events look to a person and to a program; must not know how they come about.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Self

from cnsctl.cli.progress import Progress
from cnsctl.cli.streams import fitted, given_up, json_line
from cnsctl.errors import DiskProblem
from cnsctl.results import Answer, Denoised, Drawn, Event, Failed, Note, Phase, Selected, Step, Warn
from cnsctl.specs import FORMAT

if TYPE_CHECKING:
    from types import TracebackType

EMPTY = ("", "–")
"""Cells that say nothing."""

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
        self.progress = None if as_json or quiet or not sys.stderr.isatty() else Progress()
        self.previews = PREVIEWS if previews and self.progress is not None else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        if self.progress is not None:
            self.progress.stop()

    def show(self, events: Iterable[Event]) -> None:
        """Show events until there are no more. When showing one fails, their generator is closed before this returns."""
        with closing(events) if isinstance(events, Generator) else nullcontext():
            for event in events:
                self._show(event)

    def _show(self, event: Event) -> None:  # noqa: C901, PLR0912  one case per kind of event
        if self.as_json:
            self._show_json(event)
            return
        match event:
            case Phase() | Step():
                if self.progress is not None:
                    self.progress.update(event)
            case Denoised(step=step, total=total):
                if self.progress is not None:
                    self.progress.detail(f"step {step}/{total}")
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
        elif isinstance(event, Warn):  # the one object of stdout is the answer
            self._say(json_line({"format": FORMAT, "type": "warning", "text": event.text}, sys.stderr))

    def _say(self, text: str) -> None:
        with self._still(), given_up(sys.stderr):  # nobody may be there to read it: the work goes on
            sys.stderr.write(fitted(text, sys.stderr) + "\n")
            sys.stderr.flush()

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

        from cnsctl.cli.preview import preview_bytes, protocol_of

        if (protocol := protocol_of(os.environ)) is not None:
            size = shutil.get_terminal_size()
            cells = max(1, min(PREVIEW_CELLS, size.columns, 2 * (size.lines - 4)))
            with given_up(sys.stderr):
                sys.stderr.write(preview_bytes(event.picture, protocol=protocol, width_cells=cells))
                sys.stderr.flush()

    def note(self, text: str) -> None:
        """Say something to a person who is there."""
        if not self.as_json and not self.quiet:
            self._say(text)

    def rest(self) -> None:
        """Take the progress line away until there is more: a person may be typing."""
        if self.progress is not None:
            self.progress.stop()

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Let lines be written above the progress line."""
        with nullcontext() if self.progress is None else self.progress.paused():
            yield


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


def table(rows: Sequence[Sequence[str]], head: Sequence[str], *, nothing: str = "") -> Iterable[str]:
    """Aligned columns with a head on a terminal; bare tab-separated fields in a pipe.

    On a terminal a column without a value is left out, and `nothing` says that there are no rows.
    """
    if not sys.stdout.isatty():
        yield from ("\t".join(row) for row in rows)
        return
    if not rows:
        yield nothing
        return
    told = [i for i in range(len(head)) if any(row[i] not in EMPTY for row in rows)]
    head, rows = [head[i] for i in told], [[row[i] for i in told] for row in rows]
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        yield "  ".join(cells).rstrip()


def _is_number(cell: str) -> bool:
    return cell in EMPTY or cell.rstrip(" %KMGB").replace(",", "").replace(".", "").lstrip("+-−").isdigit()


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
