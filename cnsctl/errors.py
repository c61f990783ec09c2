"""Every failure a user can meet, with its stable code and exit status.

CnsctlError                      1
├── UsageProblem                 2   the call itself makes no sense
│   └── NameNotAllowed           2
├── PartlyDone                   3   some of the inputs failed, the others are done
├── ConceptNotFound              4
├── StoreLocked                  5   another process writes, or learns the same name
├── StoreDamaged                 6   bytes in the store are not what was written
├── ForgettingFound              7   a concept, or the base, is not what it was
├── LearnedNotKept               8   learned, but refused at the commit; the work is kept
├── NoStore                      10
├── NameTaken                    1
├── PictureProblem               1   a picture, or a folder of them, cannot be used
├── BaseProblem                  1   a base is absent, foreign or not the store's
├── FormatTooNew                 1   written by a newer cnsctl
├── CapacityProblem              1   too few free neurons for the policy asked
└── DiskProblem                  1   full, read-only, or failing

Owns messages and numbers; must not know where they are printed.
"""

from __future__ import annotations

from typing import ClassVar


class CnsctlError(Exception):
    """A failure told in three parts: what failed, with which value, and what to do next.

    Args:
        what: one sentence with the offending value in it, no trailing full stop.
        hint: what the user can do now, or None when nothing can be advised.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what if hint is None else f"{what} — {hint}")
        self.what = what
        self.hint = hint


class UsageProblem(CnsctlError):
    code = "usage"
    exit_status = 2


class NameNotAllowed(UsageProblem):
    code = "name-not-allowed"


class PartlyDone(CnsctlError):
    code = "partly-done"
    exit_status = 3


class ConceptNotFound(CnsctlError):
    code = "no-such-concept"
    exit_status = 4


class StoreLocked(CnsctlError):
    code = "store-locked"
    exit_status = 5


class StoreDamaged(CnsctlError):
    code = "store-damaged"
    exit_status = 6


class ForgettingFound(CnsctlError):
    code = "forgetting-found"
    exit_status = 7


class LearnedNotKept(CnsctlError):
    code = "learned-not-kept"
    exit_status = 8


class NoStore(CnsctlError):
    code = "no-store"
    exit_status = 10


class NameTaken(CnsctlError):
    code = "name-taken"


class PictureProblem(CnsctlError):
    code = "picture"


class BaseProblem(CnsctlError):
    code = "base"


class FormatTooNew(CnsctlError):
    code = "format-too-new"


class CapacityProblem(CnsctlError):
    code = "capacity"


class DiskProblem(CnsctlError):
    code = "disk"


class NotDurable(DiskProblem):
    """The new content is in place; only the last fsync failed. After a commit this is a warning, not a failure."""

    code = "not-durable"
