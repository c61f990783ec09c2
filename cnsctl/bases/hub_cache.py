"""Folders of the Hugging Face hub's cache: `models--OWNER--NAME/snapshots/COMMIT`.

Owns their layout; must not know pipelines or the network.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from pathlib import Path

SNAPSHOTS = "snapshots"
_TOP = re.compile(r"models--(?P<name>.+)")


def snapshot_of(path: Path) -> Path:
    """The snapshot in the top folder of a repository: that of `main`, else the only one. Other paths are unchanged.

    Raises:
        BaseModelError: there is none, or several and none of them is `main`.
    """
    if not (path / SNAPSHOTS).is_dir():
        return path
    snapshots = sorted(folder for folder in (path / SNAPSHOTS).iterdir() if folder.is_dir())
    main = path / "refs" / "main"
    commit = main.read_text(encoding="utf-8", errors="replace").strip() if main.is_file() else ""
    current = [folder for folder in snapshots if folder.name == commit]
    if len(current or snapshots) != 1:
        raise BaseModelError(
            f"{'several snapshots' if snapshots else 'no snapshot'} in {path / SNAPSHOTS}",
            note=f"they are {', '.join(folder.name for folder in snapshots)}" if snapshots else None,
            hint="give the folder of one snapshot" if snapshots else "download the base model again",
        )
    return (current or snapshots)[0]


def repository_of(path: Path) -> str | None:
    """`OWNER/NAME` of a snapshot's folder; None for other folders."""
    path = path.absolute()
    top = _TOP.fullmatch(path.parents[1].name) if path.parent.name == SNAPSHOTS else None
    return top["name"].replace("--", "/") if top else None
