"""Version numbers of formats. Each format has its own, `FORMAT`, in the module that owns it.

A number changes if a reader of the old one would read something wrong. A key that may be ignored is added without a new
number: readers ignore keys that they do not know, and keep them where they write the file again.

Owns how a version is checked; must not know which formats exist.
"""

from __future__ import annotations

from cnsctl.errors import FormatTooNewError


def check_version(found: object, newest: int, shown: str) -> None:
    """Accept the version of a file, or refuse it.

    Args:
        found: as the file gives it.
        newest: the version that this cnsctl writes.
        shown: the file in messages.

    Raises:
        FormatTooNewError: written by a newer cnsctl.
        ValueError: it is not a version.
    """
    if type(found) is not int or found < 1:
        raise ValueError(f"{str(found)[:40]!r} is not a format version")
    if found > newest:
        raise FormatTooNewError(
            f"{shown} has format {found}",
            note=f"written by a newer cnsctl; this one reads up to {newest}",
            reason="upgrade",
        )
