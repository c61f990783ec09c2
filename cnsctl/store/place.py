"""Where a store may be: the default folder, and the systems that are supported.

Owns these two rules; must not know what a store contains.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cnsctl.errors import UsageError
from cnsctl.home_folder import from_home


def default_path() -> Path:
    """Where the store is by default: `CNSCTL_STORE`, else the platform's folder of user data.

    Raises:
        UsageError: the user has no home folder.
    """
    if named := os.environ.get("CNSCTL_STORE"):
        return from_home(named)
    import platformdirs

    try:
        found = Path(platformdirs.user_data_dir("cnsctl"))
    except RuntimeError:
        found = Path("~")
    if not found.is_absolute():  # without a home folder, older versions leave the `~`
        raise UsageError("no place for the store: this user has no home folder", reason="no-home")
    return found


def refuse_windows() -> None:
    """Refuse native Windows, whose renames and locks differ.

    Raises:
        UsageError: on Windows.
    """
    if sys.platform == "win32":
        raise UsageError("Windows is not supported", hint="install and run it inside WSL")
