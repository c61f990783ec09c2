"""Where a store may be: the default folder, and the systems that are supported.

Owns these two rules; must not know what a store contains.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cnsctl.errors import UsageError


def default_path() -> Path:
    """Where the store is by default: `CNSCTL_STORE`, else the platform's folder of user data."""
    if named := os.environ.get("CNSCTL_STORE"):
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_data_dir("cnsctl"))


def refuse_windows() -> None:
    """Refuse native Windows, whose renames and locks differ.

    Raises:
        UsageError: on Windows.
    """
    if sys.platform == "win32":
        raise UsageError("Windows is not supported", hint="install and run it inside WSL")
