"""How a user calls this program: in commands to copy, it is called in the same way.

Owns the name and its quoting; must not know which commands there are.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

NAME = "cnsctl"


class Command(str):
    """A line with a command to copy. It is not wrapped: a line break inside it would end the command."""

    __slots__ = ()


def command(*words: str) -> Command:
    """A line that runs as it is printed, in the current folder and in this shell's environment."""
    return Command(f"  {program()} {' '.join(map(quoted, words))}")


def quoted(word: str) -> str:
    """A word for a shell, in double quotes where it needs any and they are enough: they are easier to change."""
    if shlex.quote(word) == word:
        return word
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


def program() -> str:
    """`cnsctl` if the shell finds it, else its path; `python -m cnsctl` if it runs as a module."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py" and called.parent.name == NAME:
        return f"{shlex.quote(sys.executable)} -m {NAME}"
    found = shutil.which(NAME)
    if called.name == NAME and called.exists() and (found is None or not Path(found).samefile(called)):
        return shlex.quote(sys.argv[0])
    return NAME
