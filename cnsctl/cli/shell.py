"""Detects a prompt that the shell has taken for redirections.

Owns the signs of unquoted angle brackets; must not know prompts or commands.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def redirected_concept(stdin_fd: int, names: Iterable[str]) -> str | None:
    """The concept whose angle brackets the shell has taken for a redirection, or None.

    Without quotes, `cnsctl gen <dog> on a beach` makes the shell open the file `dog` as the standard input and write the
    output to a file named `on`. This checks whether stdin is the file in the current folder that has a concept's name.
    A folder of that name does not get here: Python does not start with a folder as its stdin.

    Args:
        stdin_fd: the file descriptor of stdin.
        names: of the concepts; not read unless stdin is a file.
    """
    try:
        stdin = os.fstat(stdin_fd)
    except OSError:  # closed: nothing was redirected
        return None
    if not stat.S_ISREG(stdin.st_mode):  # a pipe or a device
        return None
    return next((name for name in names if _is_same(name, stdin)), None)


def _is_same(name: str, stdin: os.stat_result) -> bool:
    try:
        return os.path.samestat(Path(name).stat(), stdin)
    except OSError:
        return False
