"""From exceptions to messages and exit statuses, in one place.

Owns the last line of a failure; must not know what failed.
"""

from __future__ import annotations

import functools
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, ParamSpec

from cnsctl.cli.streams import drop, fitted, given_up, json_line
from cnsctl.errors import CnsctlError, DiskProblem
from cnsctl.specs import FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

P = ParamSpec("P")

BROKEN_PIPE = 141

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command in good order, with exit status 128 + their number."""

_RESUMABLE = ("add", "demo")
"""Verbs that continue where they were stopped when they are called again."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP.

    A subclass: the interpreter ends itself by SIGINT if a bare KeyboardInterrupt has left an `exec`.
    """

    def __init__(self, number: signal.Signals = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


def guarded(verb: Callable[P, None]) -> Callable[P, None]:
    """Run a verb; print what failed on stderr and leave with its exit status."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with told(as_json=bool(kwargs.get("as_json")), resumes=verb.__name__ in _RESUMABLE):
            verb(*args, **kwargs)
            sys.stdout.flush()

    return run


@contextmanager
def told(*, as_json: bool, resumes: bool = False) -> Iterator[None]:
    """Tell on stderr what fails inside, and leave with its exit status."""
    try:
        yield
    except CnsctlError as err:
        _fail(_with_notes(err.what, err), err.hint, code=err.code, status=err.exit_status, as_json=as_json)
    except KeyboardInterrupt as err:
        for number in ENDING:  # a second signal would only cut the message off
            signal.signal(number, signal.SIG_IGN)
        with suppress(OSError):
            sys.stderr.write("\n" if sys.stderr.isatty() else "")  # the terminal wrote ^C there
        number = err.number if isinstance(err, Interrupted) else signal.SIGINT
        what = _with_notes("interrupted" if number == signal.SIGINT else f"interrupted by {number.name}", err)
        hint = "run the same command again to resume" if resumes and not _notes(err) else None
        _fail(what, hint, code="interrupted", status=128 + number, as_json=as_json)
    except BrokenPipeError:
        _leave_quietly()
    except OSError as err:
        what = f"{err.filename or 'a file cannot be read or written'}: {err.strerror or err}"
        hint = "check the path and the disk; nothing in the store is lost"
        _fail(what, hint, code=DiskProblem.code, status=DiskProblem.exit_status, as_json=as_json)
    except Exception as err:
        if _is_out_of_memory(err):
            what = f"out of memory: {' '.join(str(err).split())[:200] or 'the system has none left'}"
            hint = "use a smaller --batch or --size, or --device cpu; nothing in the store is lost"
            _fail(what, hint, code="out-of-memory", status=CnsctlError.exit_status, as_json=as_json)
        if not as_json or _is_typers(err):
            raise
        what, hint = f"{type(err).__name__}: {err}", "a bug: the same without --json shows where; please report it"
        _fail(what, hint, code="internal", status=CnsctlError.exit_status, as_json=as_json)


def _is_typers(err: Exception) -> bool:
    """How typer leaves, with a status."""
    import typer

    return isinstance(err, (typer.Exit, typer.Abort))


def _is_out_of_memory(err: Exception) -> bool:
    """Python's own, or one of torch's, which has several and says it in words on CPUs and MPS."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(err, MemoryError) or (isinstance(err, RuntimeError) and any(w in str(err) for w in words))


def catch_interrupts() -> None:
    """Turn the signals that end a command into `Interrupted`, unless the process was started to ignore them.

    A shell does so for Ctrl-C in the background, `nohup` for SIGHUP.
    """
    for number in ENDING:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _interrupt)


def _notes(err: BaseException) -> list[str]:
    """What was added to an exception on its way: what is saved, or is not."""
    return getattr(err, "__notes__", [])


def _with_notes(what: str, err: BaseException) -> str:
    return "; ".join([what, *_notes(err)])


def _fail(what: str, hint: str | None, *, code: str, status: int, as_json: bool) -> NoReturn:
    with given_up(sys.stdout):
        sys.stdout.flush()
    with given_up(sys.stderr):  # a full or closed stderr takes the message, not the exit status
        if as_json:
            facts = {"format": FORMAT, "type": "error", "code": code, "message": what, "hint": hint, "exit": status}
            sys.stderr.write(json_line(facts, sys.stderr) + "\n")
        else:
            sys.stderr.write(fitted(f"cnsctl: {what}", sys.stderr) + "\n")
            if hint is not None:
                sys.stderr.write(fitted(f"  hint: {hint}", sys.stderr) + "\n")
        sys.stderr.flush()
    sys.exit(status)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted(signal.Signals(number))


def _leave_quietly() -> NoReturn:
    """The reader of a pipe has gone, as `head` does: no message."""
    drop(sys.stdout)
    sys.exit(BROKEN_PIPE)
