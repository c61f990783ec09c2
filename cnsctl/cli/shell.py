"""What a shell made of a prompt before the program saw it.

Owns the signs of unquoted angles; must not know prompts or commands.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def redirected_concept(stdin_fd: int, names: Iterable[str]) -> str | None:
    """Name the concept whose angles a shell has taken for a redirection, or None.

    Without quotes, `cnsctl gen <dog> on a beach` makes the shell open the file `dog` as the standard input and write the
    output to a file named `on`. So: is the standard input what stands in the current folder under a concept's name?
    With a folder of that name it never gets so far: Python does not start with one as its standard input.

    Args:
        stdin_fd: the file descriptor of the standard input.
        names: of the concepts there are; not asked for where the standard input is not a file.
    """
    try:
        stdin = os.fstat(stdin_fd)
    except OSError:  # closed: nothing was redirected
        return None
    if not stat.S_ISREG(stdin.st_mode):  # a pipe or a device: no name needs to be looked at
        return None
    return next((name for name in names if _is_same(name, stdin)), None)


def _is_same(name: str, stdin: os.stat_result) -> bool:
    try:
        return os.path.samestat(Path(name).stat(), stdin)
    except OSError:
        return False
