"""The only printing: results on stdout, everything else on stderr.

Owns the format of events and results for people and for programs; must not know how they are computed.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from cnsctl.cli.hints import HINTS, hint_of
from cnsctl.cli.progress import Log, Progress, View
from cnsctl.cli.streams import error_lines, fitted, given_up, json_line, printable, terminal_size
from cnsctl.errors import DiskError, UsageError
from cnsctl.events import Ahead, Denoised, Event, Failed, ImageReady, Note, Phase, Preview, Selected, Sheet, Step, Warn
from cnsctl.results import FORMAT, as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from cnsctl.results import Result

R = TypeVar("R", bound="Result")

PREVIEWS = 8
"""Images shown in the terminal by one call; all are on disk."""

PREVIEW_CELLS = 32
"""Columns of a preview; fewer if the terminal is small."""

SHEET_CELLS = 110
"""Columns of a contact sheet, which may be taller than the terminal: it comes once, and scrolls."""


class Output(Generic[R]):
    """Prints events as they occur, and the result. Use it as a context manager: the progress line is removed at the end.

    Args:
        as_json: print JSON.
        quiet: print bare names or paths.
        human: a result as lines for a person.
        bare: a result as bare names or paths.
        lines: with `as_json`, print events as JSON lines and the result as the last one.
        previews: show images in a terminal that can.
        verbose: print details of the work too.
        denoised: with `lines`, print inference steps too.
    """

    def __init__(
        self,
        *,
        as_json: bool,
        quiet: bool,
        human: Callable[[R], Iterable[str]],
        bare: Callable[[R], Iterable[str]],
        lines: bool = False,
        previews: bool = False,
        verbose: bool = False,
        denoised: bool = False,
    ) -> None:
        self.as_json, self.quiet, self.human, self.bare, self.lines = as_json, quiet, human, bare, lines
        self.verbose, self.denoised = verbose, denoised
        self.progress = None if as_json or quiet else self._view()
        self.previews = PREVIEWS if previews and isinstance(self.progress, Progress) else 0

    def _view(self) -> View:
        """A line that is rewritten, where a terminal can do that; else lines of a log."""
        dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
        return Progress() if sys.stderr.isatty() and not dumb else Log(self._say)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        if self.progress is not None:
            self.progress.stop()

    def run(self, work: Generator[Event, None, R]) -> R:
        """Print the events of a workflow as they occur, then its result, which is also returned."""
        with closing(work):  # also if printing fails: closing it writes the training state
            while True:
                try:
                    event = next(work)
                except StopIteration as done:
                    result: R = done.value
                    self.result(result)
                    return result
                self._event(event)

    def _event(self, event: Event) -> None:
        if not self.as_json:
            self._show(event)
        elif isinstance(event, Denoised) and not self.denoised:
            pass
        elif self.lines and (line := _as_json(event)) is not None:
            out_json({"format": FORMAT, **line})
        elif isinstance(event, Warn):  # stdout contains one object, the result
            self._say(json_line({"format": FORMAT, "type": "warning", "text": event.text}, sys.stderr))

    def result(self, result: R) -> None:
        """Print a result."""
        if self.progress is not None:
            self.progress.stop()
        if self.as_json:
            out_json({**as_json(result), **({"type": "result"} if self.lines else {})})
            return
        shown = map(_bare, self.bare(result)) if self.quiet else (fitted(h, sys.stdout) for h in self.human(result))
        for line in shown:
            out(line)

    def _show(self, event: Event) -> None:
        match event:
            case Ahead() | Phase() | Step() | Denoised():
                if self.progress is not None:
                    self.progress.update(event)
            case Note(text=text, reason=reason, is_detail=is_detail):
                if not self.quiet and (self.verbose or not is_detail):
                    self._say(text, *_hint(reason))
            case Warn(text=text, reason=reason):
                self._say(f"warning: {text}", *_hint(reason))
            case Failed(prompt=prompt, error=err):
                what = f"{prompt}: {err.what}"
                self._say(*error_lines(err.code, what, note=err.note, hint=hint_of(err)))
            case Selected() if self.verbose and not self.quiet:
                shared = f"; {event.shared:,} shared with other concepts (random mask: {event.shared_random:,})"
                text = f"{event.neurons:,} neurons, {100 * event.share:.2f} % of the K/V weights"
                self._say(text + (shared if event.shared or event.shared_random else ""))
            case ImageReady():
                self._image(event)
            case Preview() | Sheet() if not self.quiet:
                self._images(event)
            case _:
                pass

    def _say(self, *lines: str) -> None:
        with self._still(), given_up(sys.stderr):  # the work continues if stderr cannot be written
            sys.stderr.writelines(fitted(line, sys.stderr) + "\n" for line in lines)
            sys.stderr.flush()

    def _image(self, event: ImageReady) -> None:
        if event.path == "-":
            with _writing_the_result():
                sys.stdout.buffer.write(event.png)
                sys.stdout.buffer.flush()
            return
        with self._still():
            out(_bare(event.path))
            if self.previews > 0 and event.pixels is not None:  # None: another process made it
                self.previews -= 1
                self._preview(event.pixels)
        if self.progress is not None:
            self.progress.update(event)

    def _images(self, event: Preview | Sheet) -> None:
        """Several images side by side: a preview during the training, or a contact sheet."""
        from cnsctl.cli.preview import protocol_of

        if isinstance(event, Preview):
            self._say(f"step {event.step}: {event.path}")
        if not isinstance(self.progress, Progress) or (protocol := protocol_of(os.environ)) is None:
            return
        images, cells = [("", event.pixels)], SHEET_CELLS if isinstance(event, Sheet) else None
        if isinstance(event, Sheet) and protocol == "blocks":  # its texts would be blurred
            images = list(event.strips)
        for label, pixels in images:
            if label:
                self._say(label)
            with self._still():
                self._preview(pixels, cells=cells)

    def preview(self, file: Path) -> None:
        """Show an image file in a terminal that can; a file that is missing or damaged is not shown."""
        from cnsctl.cli.preview import protocol_of

        if self.previews < 1 or not sys.stdout.isatty() or protocol_of(os.environ) is None:
            return
        import numpy as np
        from PIL import Image

        self.previews -= 1
        with (
            suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError),
            Image.open(file, formats=("PNG",)) as image,
        ):
            self._preview(np.asarray(image.convert("RGB")))

    def _preview(self, pixels: Any, *, cells: int | None = None) -> None:
        """Show an image in at most so many columns; by default several side by side, each as wide as one alone."""
        from cnsctl.cli.preview import preview_bytes, protocol_of

        if (protocol := protocol_of(os.environ)) is not None:
            size = terminal_size(sys.stderr)
            shape = pixels.shape[1] / pixels.shape[0]
            if cells is None:
                cells = int(min(PREVIEW_CELLS * max(1, shape), 2 * (size.lines - 4) * shape))
            width = max(1, min(cells, size.columns))
            with given_up(sys.stderr):
                sys.stderr.write(preview_bytes(pixels, protocol=protocol, width_cells=width))
                sys.stderr.flush()

    def note(self, text: str) -> None:
        """Print a note for a person."""
        if not self.as_json and not self.quiet:
            self._say(text)

    def rest(self) -> None:
        """Remove the progress line until the next phase: a person may be typing."""
        if self.progress is not None:
            self.progress.stop()

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Let lines be written above the progress line."""
        with nullcontext() if self.progress is None else self.progress.paused():
            yield


def _hint(reason: str) -> list[str]:
    """The advice about a note or a warning, if there is any."""
    return [f"  hint: {HINTS[reason]({})}"] if reason in HINTS else []


def out(line: str) -> None:
    """Print one line of the result and flush it, so that a reader of the pipe gets it immediately."""
    with _writing_the_result():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _bare(text: str) -> str:
    """A name or path: as it is for a program, without control characters for a terminal."""
    return printable(text) if sys.stdout.isatty() else text


def refuse_bytes(*, as_json: bool, to_stdout: bool, instead: str) -> None:
    """Check that stdout can take the bytes of a file.

    Raises:
        UsageError: it is a terminal, or takes JSON.
    """
    if to_stdout and as_json:
        raise UsageError("cannot write both a file and JSON to stdout", hint=f"use --json with {instead}")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("cannot write the bytes of a file to the terminal", hint=f"add > FILE, or use {instead}")


def out_json(data: Mapping[str, Any]) -> None:
    """Print one line of JSON."""
    out(json_line(data, sys.stdout))


@contextmanager
def _writing_the_result() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as err:
        raise DiskError(
            f"cannot write to standard output: {err.strerror}", hint="free some space, or write to another place"
        ) from err


def _as_json(event: Event) -> dict[str, Any] | None:  # noqa: PLR0911  one case per kind of event
    match event:
        case Phase(name=name, total=total, unit=unit):
            return {"type": "phase", "phase": name, "total": total, "unit": unit}
        case Step(phase=phase, step=step, total=total, loss=loss, loss_first=first, loss_now=now):
            losses = {"loss": loss, "loss_first": first, "loss_now": now}
            return {"type": "step", "phase": phase, "step": step, "total": total, **losses}
        case Denoised(step=step, total=total, images=images):
            return {"type": "denoised", "step": step, "total": total, "images": images}
        case Sheet(path=path):
            return {"type": "sheet", "path": path}
        case Preview(step=step, path=path, prompts=prompts):
            return {"type": "preview", "step": step, "path": path, "prompts": list(prompts)}
        case Note(text=text) | Warn(text=text):
            return {"type": "note" if isinstance(event, Note) else "warning", "text": text}
        case Failed(prompt=prompt, error=err):
            parts = {"code": err.code, "message": err.what, "note": err.note, "hint": hint_of(err)}
            return {"type": "failed", "prompt": prompt, **parts}
        case ImageReady(path=path, seed=seed, prompt=prompt, concepts=concepts):
            return {"type": "image", "path": path, "seed": seed, "prompt": prompt, "concepts": list(concepts)}
        case Selected():
            return {
                "type": "selected",
                "neurons": event.neurons,
                "share": event.share,
                "shared": event.shared,
                "shared_random": event.shared_random,
            }
    return None
