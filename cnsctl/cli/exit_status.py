"""From exceptions to messages and exit statuses, in one place.

Owns the format of errors; must not know what failed.
"""

from __future__ import annotations

import functools
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, ParamSpec

from cnsctl.cli.hints import hint_of
from cnsctl.cli.streams import drop, error_lines, fitted, given_up, json_line
from cnsctl.errors import CnsctlError, DiskError, OutOfMemoryError, is_out_of_memory
from cnsctl.home_folder import from_home
from cnsctl.results import FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

P = ParamSpec("P")

BROKEN_PIPE = 141

TABLE: Mapping[int, str] = {
    0: "ok",
    1: "error",
    2: "usage",
    3: "partial failure",
    4: "concept not found",
    5: "store locked",
    6: "store damaged",
    7: "forgetting found",
    8: "trained but not saved",
    10: "store not found",
    129: "SIGHUP",
    130: "Ctrl-C",
    141: "output pipe closed",
    143: "SIGTERM",
}
"""What each exit status means."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command, with exit status 128 + their number."""

_RESUMABLE = ("add", "demo")
"""Verbs that continue where they were stopped when they are called again."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP.

    A subclass, because the interpreter ends itself by SIGINT after a plain KeyboardInterrupt has left an `exec`.
    """

    def __init__(self, number: signal.Signals = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


def guarded(verb: Callable[P, None], name: str) -> Callable[P, None]:
    """Run a verb; print a failure on stderr and exit with its status."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with reported(as_json=bool(kwargs.get("as_json")), resumes=name in _RESUMABLE):
            verb(*args, **{name: _at_home(value) for name, value in kwargs.items()})  # type: ignore[arg-type]
            sys.stdout.flush()

    return run


def _at_home(value: object) -> object:
    """A path, or a list of paths, with the home folder instead of `~`; other values as they are."""
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return from_home(value) if isinstance(value, Path) else value


@contextmanager
def reported(*, as_json: bool, resumes: bool = False) -> Iterator[None]:
    """Print a failure inside the block on stderr, and exit with its status."""
    try:
        yield
    except CnsctlError as err:
        what, hint = _with_notes(err.what, err), hint_of(err)
        _fail(what, hint, note=err.note, code=err.code, status=err.exit_status, as_json=as_json)
    except KeyboardInterrupt as err:
        for number in ENDING:  # a second signal would only truncate the message
            signal.signal(number, signal.SIG_IGN)
        with suppress(OSError):
            sys.stderr.write("\n" if sys.stderr.isatty() else "")  # below the ^C of the terminal
        number = err.number if isinstance(err, Interrupted) else signal.SIGINT
        by = "Ctrl-C" if number == signal.SIGINT else number.name
        what = _with_notes(f"interrupted by {by}", err)
        hint = "run the same command again to resume" if resumes and not _notes(err) else None
        _fail(what, hint, code="interrupted", status=128 + number, as_json=as_json)
    except BrokenPipeError:
        _leave_quietly()
    except OSError as err:
        if is_out_of_memory(err):
            _fail_without_memory(err, as_json=as_json)
        what = f"cannot read or write {err.filename or 'a file'}: {err.strerror or err}"
        hint = "check the path and the disk"
        _fail(what, hint, code=DiskError.code, status=DiskError.exit_status, as_json=as_json)
    except Exception as err:
        if is_out_of_memory(err):
            _fail_without_memory(err, as_json=as_json)
        if not as_json or _is_typers(err):
            raise
        what, hint = f"{type(err).__name__}: {err}", "this is a bug: report it with the output without --json"
        _fail(what, hint, code="internal", status=CnsctlError.exit_status, as_json=as_json)


def _is_typers(err: Exception) -> bool:
    """Whether typer exits with a status."""
    import typer

    return isinstance(err, (typer.Exit, typer.Abort))


def _fail_without_memory(err: Exception, *, as_json: bool) -> NoReturn:
    what = f"out of memory: {' '.join(str(err).split())[:200] or 'the system has none left'}"
    hint = "use a smaller --batch-size, --width or --height, --memory low, or --device cpu"
    _fail(what, hint, code=OutOfMemoryError.code, status=OutOfMemoryError.exit_status, as_json=as_json)


def catch_interrupts() -> None:
    """Turn the signals that end a command into `Interrupted`, unless the process was started to ignore them.

    A shell ignores Ctrl-C for background jobs, `nohup` ignores SIGHUP.
    """
    for number in ENDING:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _interrupt)


def _notes(err: BaseException) -> list[str]:
    """Notes added to an exception on its way: whether a change or a training state is saved."""
    return getattr(err, "__notes__", [])


def _with_notes(what: str, err: BaseException) -> str:
    return "; ".join([what, *_notes(err)])


def _fail(what: str, hint: str | None, *, code: str, status: int, as_json: bool, note: str | None = None) -> NoReturn:
    with given_up(sys.stdout):
        sys.stdout.flush()
    with given_up(sys.stderr):  # a full or closed stderr loses the message, not the exit status
        if as_json:
            facts = {"format": FORMAT, "type": "error", "code": code, "message": what}
            facts |= {"note": note, "hint": hint, "exit": status}
            sys.stderr.write(json_line(facts, sys.stderr) + "\n")
        else:
            lines = error_lines(code, what, note=note, hint=hint)
            sys.stderr.writelines(fitted(line, sys.stderr) + "\n" for line in lines)
        sys.stderr.flush()
    sys.exit(status)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted(signal.Signals(number))


def _leave_quietly() -> NoReturn:
    """The reader of the pipe has ended, as `head` does: no message."""
    drop(sys.stdout)
    sys.exit(BROKEN_PIPE)
