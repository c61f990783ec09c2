"""Where a shell looks for the completion of a user's programs, and what else it needs.

Owns these places; must not know what a script contains.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

MADE_BY = "made by: cnsctl completion"
"""In every script: only such a file is replaced or deleted."""

_BASH_COMPLETION = (
    "/usr/share/bash-completion/bash_completion",
    "/etc/bash_completion",
    "/usr/local/etc/profile.d/bash_completion.sh",
    "/opt/homebrew/etc/profile.d/bash_completion.sh",
)
"""The program that loads completions by name; bash itself does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file that a shell reads, and what the user has to add to a configuration file."""

    file: Path
    rc: str | None
    """The configuration file; None if nothing has to be added."""
    line: str | None


def shell_of_user() -> str:
    """The name of the user's shell, from `$SHELL`; empty if it is not set."""
    return Path(os.environ.get("SHELL", "")).name


def place_of(shell: str) -> Place:
    """Where the script of a shell belongs."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    if shell == "fish":
        return Place(file=data / "fish/vendor_completions.d/cnsctl.fish", rc=None, line=None)
    if shell == "zsh":
        folder = data / "zsh/site-functions"
        line = f"fpath=({shlex.quote(str(folder))} $fpath); autoload -Uz compinit; compinit"
        rc = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
        return _needed(folder / "_cnsctl", rc, line, known=str(folder) in _text(rc))
    folder = Path(os.environ.get("BASH_COMPLETION_USER_DIR") or data / "bash-completion")
    file, rc = folder / "completions/cnsctl", home / ".bashrc"
    known = any(Path(program).exists() for program in _BASH_COMPLETION) or str(file) in _text(rc)
    return _needed(file, rc, f"source {shlex.quote(str(file))}", known=known)


def _needed(file: Path, rc: Path, line: str, *, known: bool) -> Place:
    return Place(file=file, rc=None if known else str(rc), line=None if known else line)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def is_ours(file: Path) -> bool:
    """Whether a file is a script of this program, or missing."""
    return not file.exists() or MADE_BY in _text(file)
