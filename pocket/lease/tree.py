"""The working tree on its way to another machine: what stays here, and whether the rest is small enough."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from pocket.errors import PocketError

if TYPE_CHECKING:
    from pathlib import Path

ASIDE = ("docs", "benchmarks", "tests")
"""Folders that training does not read."""

FOLDER = "lease"
"""Ignored by git: everything of a lease that is not committed."""

TREE_BYTES = 64 * 2**20
"""What the working tree may weigh."""


def set_aside(root: Path) -> None:
    """Move the folders that training does not read to `lease/aside`.

    Nothing can be lost: each folder moves in one rename, and all that it holds is committed or ignored.

    Raises:
        PocketError: one of them has uncommitted changes.
    """
    if changed := _git(root, "status", "--porcelain", "--", *ASIDE).splitlines():
        raise PocketError(f"uncommitted change in a folder that is set aside: {changed[0][3:]}", hint="commit it first")
    kept = root / FOLDER / "aside"
    kept.mkdir(parents=True, exist_ok=True)
    for name in ASIDE:
        if (root / name).exists():
            (root / name).rename(kept / name)


def restore(root: Path) -> list[str]:
    """Move the folders back; return the names of those that were away."""
    away = [name for name in ASIDE if (root / FOLDER / "aside" / name).exists()]
    for name in away:
        if (root / name).exists():
            kept = f"{FOLDER}/aside/{name}"
            raise PocketError(f"{name} and {kept} both exist", hint=f"compare them, then delete {kept}")
        (root / FOLDER / "aside" / name).rename(root / name)
    return away


def check_size(root: Path, carried: Path) -> int:
    """Bytes of the files that travel.

    Raises:
        PocketError: there are more than 64 MiB.
    """
    files = {name: (root / name) for name in _git(root, "ls-files", "-z", "-co", "--exclude-standard").split("\0")}
    sizes = {name: path.lstat().st_size for name, path in files.items() if path.is_file()}
    total = sum(sizes.values()) + carried.stat().st_size
    if total > TREE_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise PocketError(
            f"the tree has {total / 2**20:.1f} MiB, more than {TREE_BYTES / 2**20:.0f}",
            hint=f"move large files out of the repository; the largest is {largest}",
        )
    return total


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PocketError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout
