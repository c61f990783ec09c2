"""Every failure that a user can meet, with its stable code and exit status.

CnsctlError                      1
├── UsageError                   2   the call itself is wrong
│   ├── InvalidNameError         2
│   ├── UnknownFormatError       2   the file is of no format that cnsctl reads
│   └── InvalidSettingError      2
├── PartialFailureError          3   some of the inputs failed, the others are done
├── ConceptNotFoundError         4
├── StoreLockedError             5   another process writes, or trains under the same name
├── StoreDamagedError            6   bytes in the store differ from those written
├── ForgettingError              7   a concept, or the base model, has changed
├── NotSavedError                8   trained, but refused at the commit; the training state is kept
├── StoreNotFoundError           10
├── NameTakenError               1
├── DamagedFileError             1   a file of a known format is not as a program writes it
├── ImageError                   1   an image, or a folder of them, cannot be used
├── BaseModelError               1   a base model is missing, unsupported or another one than the store's
├── FormatTooNewError            1   written by a newer cnsctl
├── FormatTooOldError            1   the store can be read, but not changed before it is migrated
├── CapacityError                1   too few free neurons for the policy
├── OutOfMemoryError             1   the process may not use the memory that it needs
└── DiskError                    1   full, read-only, or failing
    └── NotDurableError          1   saved, but a power cut could undo it

Owns messages, codes and numbers; must not know flags (`cli/hints.py`) or where they are printed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


_NO_MEMORY = (
    "out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "failed to map segment",
    "can't start new thread",
)  # fmt: skip


def is_out_of_memory(err: BaseException) -> bool:
    """Python's MemoryError, or an error of a library, which differs from others by its text only."""
    return isinstance(err, MemoryError) or any(words in str(err).lower() for words in _NO_MEMORY)


class CnsctlError(Exception):
    """A failure in three parts: what failed, with which value, and what to do next.

    Args:
        what: one sentence with the offending value in it, without a full stop and without advice.
        note: context, a limit or a path.
        hint: what to do next, without flags or commands of a program.
        reason: names the case; `cli/hints.py` maps it to advice with flags.
        facts: values of the case, by name.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1

    def __init__(
        self, what: str, *, note: str | None = None, hint: str | None = None, reason: str = "", **facts: Any
    ) -> None:
        super().__init__("; ".join(part for part in (what, note, hint) if part))
        self.what = what
        self.note = note
        self.hint = hint
        self.reason = reason
        self.facts = facts


class UsageError(CnsctlError):
    code = "usage"
    exit_status = 2


class InvalidNameError(UsageError):
    code = "invalid-name"


class UnknownFormatError(UsageError):
    """A file that the caller gave is not of a format that cnsctl reads. It may be intact."""

    code = "unknown-format"


class InvalidSettingError(UsageError):
    """A setting is unknown, of another type, or out of range.

    Args:
        name: of the setting, as in Python and JSON.
        value: as given.
        allowed: the allowed values in words.
        wrong: the name is unknown, the value is not one of the choices, or it is out of range.
        near: the allowed values that are most similar.
    """

    code = "invalid-setting"

    def __init__(
        self,
        name: str,
        value: object,
        *,
        allowed: str,
        wrong: Literal["name", "choice", "range"] = "range",
        near: Sequence[str] = (),
    ) -> None:
        shown = (repr(value) if isinstance(value, str) else str(value))[:80]
        what = {
            "name": f"unknown setting {name[:80]!r}",
            "choice": f"unknown {name} {shown}",
            "range": f"{name} is out of range: {shown}",
        }[wrong]
        super().__init__(what, note=f"allowed: {allowed}", reason="setting", name=name, value=value, near=near)
        self.name = name
        self.value = value
        self.allowed = allowed


class PartialFailureError(CnsctlError):
    code = "partial-failure"
    exit_status = 3


class ConceptNotFoundError(CnsctlError):
    code = "concept-not-found"
    exit_status = 4


class StoreLockedError(CnsctlError):
    code = "store-locked"
    exit_status = 5


class StoreDamagedError(CnsctlError):
    code = "store-damaged"
    exit_status = 6


class ForgettingError(CnsctlError):
    code = "forgetting-found"
    exit_status = 7


class NotSavedError(CnsctlError):
    code = "not-saved"
    exit_status = 8


class StoreNotFoundError(CnsctlError):
    code = "store-not-found"
    exit_status = 10


class NameTakenError(CnsctlError):
    code = "name-taken"


class DamagedFileError(CnsctlError):
    """A file that the caller gave is of a known format, but truncated, changed or hostile."""

    code = "damaged-file"


class ImageError(CnsctlError):
    code = "image"


class BaseModelError(CnsctlError):
    code = "base-model"


class FormatTooNewError(CnsctlError):
    code = "format-too-new"


class FormatTooOldError(CnsctlError):
    code = "format-too-old"


class CapacityError(CnsctlError):
    code = "capacity"


class OutOfMemoryError(CnsctlError):
    code = "out-of-memory"


class DiskError(CnsctlError):
    code = "disk"


class NotDurableError(DiskError):
    """The new content is in place; only the last fsync failed. After a commit this is a warning, not a failure."""

    code = "not-durable"
