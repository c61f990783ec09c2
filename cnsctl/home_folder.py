"""A `~` at the beginning of a path: a shell replaces it only where it is not quoted and not behind `=`.

Owns this replacement; must not know what a path is for.
"""

from __future__ import annotations

from pathlib import Path

from cnsctl.errors import UsageError


def from_home(path: str | Path) -> Path:
    """The path with the home folder instead of a `~` or `~user` at its beginning.

    Raises:
        UsageError: the user does not have a home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as err:
        raise UsageError(f"home folder not found: '{path}'", hint="write the whole path, from / on") from err
