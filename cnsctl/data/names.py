"""Names of concepts.

Owns which names are allowed and what they say; must not know which are taken.
"""

from __future__ import annotations

import re
import unicodedata

from cnsctl.concept import NAME
from cnsctl.errors import InvalidNameError

_SHOWN = 80
"""Characters of a refused name that a message shows."""


def check_name(name: str) -> str:
    """Return a name that may be given to a concept, unchanged.

    The rule keeps a name typeable in every shell, safe as a part of a path, and the same on file systems that fold
    case or accents.

    Raises:
        InvalidNameError: with the rule, and the nearest allowed name when there is one.
    """
    if NAME.fullmatch(name):
        return name
    shown = name if len(name) <= _SHOWN else name[:_SHOWN] + "…"
    nearest = _nearest(name)
    raise InvalidNameError(
        f"{shown!r} cannot be the name of a concept: it takes 1 to 63 of a-z, 0-9, '-' and '_', and starts with a letter"
        " or digit",
        hint="choose another, such as 'dog' or 'top-hat'" if nearest is None else f"try {nearest!r}",
    )


def words_of(name: str) -> str:
    """Read a name as words, for choosing its class word: 'top-hat' says 'top hat'."""
    return " ".join(re.split("[-_]+", name)).strip()


def _nearest(name: str) -> str | None:
    """Clean a name until it is allowed, or return None when nothing is left of it."""
    name = name.strip().removeprefix("<").removesuffix(">")
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    cleaned = re.sub("[^a-z0-9_]+", "-", plain).lstrip("-_")[:63].rstrip("-_")
    return cleaned if NAME.fullmatch(cleaned) else None
