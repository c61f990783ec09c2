"""From exceptions to messages and exit statuses, in one place.

Owns the last line of a failure; must not know what failed.
"""

from __future__ import annotations

import functools
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, ParamSpec

from cnsctl.cli.lines import drop, fitted, given_up, json_line
from cnsctl.errors import CnsctlError, DiskProblem
from cnsctl.specs import FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

P = ParamSpec("P")

INTERRUPTED = 130
BROKEN_PIPE = 141

_GO_ON = ("add", "demo")
"""Verbs that, called again, go on where they were stopped."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. The interpreter ends itself by the signal once it saw a bare KeyboardInterrupt leave an `exec`."""


def guarded(verb: Callable[P, None]) -> Callable[P, None]:
    """Run a verb; print what failed on stderr and leave with its exit status."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        with told(as_json=bool(kwargs.get("as_json")), goes_on=verb.__name__ in _GO_ON):
            verb(*args, **kwargs)
            sys.stdout.flush()

    return run


@contextmanager
def told(*, as_json: bool, goes_on: bool = False) -> Iterator[None]:
    """Tell on stderr what fails inside, and leave with its exit status."""
    try:
        yield
    except CnsctlError as err:
        _fail(err.what, err.hint, code=err.code, status=err.exit_status, as_json=as_json)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would only cut the message off
        with suppress(OSError):
            sys.stderr.write("\n" if sys.stderr.isatty() else "")  # the terminal wrote ^C there
        hint = "the same command goes on from here" if goes_on else None
        what = "interrupted; nothing in the store is lost"
        _fail(what, hint, code="interrupted", status=INTERRUPTED, as_json=as_json)
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
    """Turn Ctrl-C into `Interrupted`, unless the process was started to ignore it, as in the background."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


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


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted


def _leave_quietly() -> NoReturn:
    """The reader of a pipe has gone, as `head` does: no message."""
    drop(sys.stdout)
    sys.exit(BROKEN_PIPE)
