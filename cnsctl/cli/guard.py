"""From exceptions to messages and exit statuses, in one place.

Owns the last line of a failure; must not know what failed.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, ParamSpec

from cnsctl.errors import CnsctlError, DiskProblem
from cnsctl.specs import FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

P = ParamSpec("P")

INTERRUPTED = 130
BROKEN_PIPE = 141


def guarded(verb: Callable[P, None]) -> Callable[P, None]:
    """Run a verb; print what failed on stderr and leave with its exit status."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        try:
            verb(*args, **kwargs)
            sys.stdout.flush()
        except CnsctlError as err:
            _fail(err, as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            sys.stderr.write("\ncnsctl: interrupted; the store is unchanged, and the same command goes on from here\n")
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            _leave_quietly()
        except OSError as err:
            _fail(
                DiskProblem(
                    f"{err.filename or 'the disk'}: {err.strerror or err}", hint="nothing in the store was changed"
                ),
                as_json=bool(kwargs.get("as_json")),
            )

    return run


def _fail(err: CnsctlError, *, as_json: bool) -> NoReturn:
    sys.stdout.flush()
    if as_json:
        told = {"format": FORMAT, "type": "error", "code": err.code, "message": err.what, "hint": err.hint}
        sys.stderr.write(json.dumps(told | {"exit": err.exit_status}, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"cnsctl: {err.what}\n")
        if err.hint is not None:
            sys.stderr.write(f"  hint: {err.hint}\n")
    sys.exit(err.exit_status)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _leave_quietly() -> NoReturn:
    """The reader of a pipe has gone, as `head` does: no message, and no second failure when Python flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(BROKEN_PIPE)
