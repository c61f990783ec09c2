"""Names of concepts.

Owns which names are allowed and their words; must not know which are taken.
"""

from __future__ import annotations

import re
import unicodedata

from cnsctl.concept import NAME
from cnsctl.errors import InvalidNameError

_SHOWN = 80
"""Characters of a refused name that a message shows."""


def check_name(name: str) -> str:
    """Return an allowed name of a concept unchanged.

    An allowed name can be typed in every shell, is safe in a path, and is unique on file systems that ignore case or
    accents.

    Raises:
        InvalidNameError: the note contains the rule, and the hint the nearest allowed name.
    """
    if NAME.fullmatch(name):
        return name
    shown = name if len(name) <= _SHOWN else name[:_SHOWN] + "…"
    nearest = near_name(name)
    raise InvalidNameError(
        f"invalid name of a concept: {shown!r}",
        note="allowed: 1 to 63 of a-z, 0-9, '-' and '_'; the first is a letter or digit",
        hint="use a name such as 'dog' or 'top-hat'" if nearest is None else f"use {nearest!r}",
    )


def words_of(name: str) -> str:
    """The words of a name, for the default class word: 'top-hat' gives 'top hat'."""
    return " ".join(re.split("[-_]+", name)).strip()


def near_name(name: str) -> str | None:
    """Change a name until it is allowed, or return None if no character is left."""
    name = name.strip().removeprefix("<").removesuffix(">")
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    cleaned = re.sub("[^a-z0-9_]+", "-", plain).lstrip("-_")[:63].rstrip("-_")
    return cleaned if NAME.fullmatch(cleaned) else None
