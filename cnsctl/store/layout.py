"""A new store: made beside its place, then moved there in one step.

Owns which files a store begins with and how a base is copied into it; must not know concepts.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from cnsctl.errors import BaseProblem, UsageProblem
from cnsctl.store import catalogue, reference
from cnsctl.store.files import TEMP_PREFIX, disk_problem, make_folder, sync_folder, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from cnsctl.store.reference import Birth

BASE = "base"
BLOBS = "blobs"
CACHE = "cache"
NAMES = "names"
WORK = "work"
LOCK = "lock"

_FICLONE = 0x40049409
"""Linux: share the blocks of another file until one of both changes."""


def build(path: Path, birth: Birth, base_files: Path | None) -> None:
    """Make a store at a path where nothing is, or an empty folder. It is there whole or not at all.

    Args:
        path: of the store.
        birth: what never changes in it.
        base_files: folder whose files (those that the reference lists, if it lists any) become the store's own base.

    Raises:
        UsageProblem: something is at the path already.
        BaseProblem: a file of the base is missing.
        DiskProblem: full, read-only or failing.
    """
    import shutil

    path = path.resolve()
    _refuse_taken(path)
    make_folder(path.parent)
    temp = path.with_name(f"{TEMP_PREFIX}{path.name[:80]}-{os.getpid()}-{os.urandom(6).hex()}")
    try:
        _fill(temp, birth, base_files)
        os.rename(temp, path)  # noqa: PTH104  as in `files`; it takes the place of an empty folder, and of nothing else
        sync_folder(path.parent)
    except OSError as err:
        if err.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            _refuse_taken(path)
        raise disk_problem(err, "make the store", path) from err
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _refuse_taken(path: Path) -> None:
    if (path / reference.FILE).exists():
        raise UsageProblem(
            f"there is a store at {path} already", hint="use it, or choose another place: --store FOLDER"
        )
    if path.exists() and not path.is_dir():
        raise UsageProblem(f"{path} is a file, no folder", hint="choose another place: --store FOLDER")
    try:
        is_empty = not path.exists() or not any(path.iterdir())
    except OSError as err:
        raise disk_problem(err, "read the folder", path) from err
    if not is_empty:
        raise UsageProblem(
            f"{path} is not empty and no store",
            hint="choose an empty or new folder: --store FOLDER; nothing was changed",
        )


def _fill(folder: Path, birth: Birth, base_files: Path | None) -> None:
    make_folder(folder / BLOBS)
    if base_files is not None:
        names = sorted(birth.base.files) or _names_in(base_files)
        for name in names:
            _copy(base_files / name, folder / BASE / name)
    write_atomic(folder / catalogue.FILE, catalogue.seal(catalogue.first_tables(birth.base.n_weights)))
    write_atomic(folder / NAMES, b"")
    write_atomic(folder / reference.FILE, reference.birth_to_bytes(birth))


def _names_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _copy(source: Path, target: Path) -> None:
    """Copy a file durably. Never a hard link: who edits the original must not edit the store's base."""
    import shutil

    make_folder(target.parent)
    try:
        content = source.open("rb")
    except OSError as err:
        raise BaseProblem(f"{source} of the base cannot be read: {err.strerror}", hint="restore the base") from err
    try:
        with content, target.open("xb") as copy:
            if not _reflinked(content, copy):
                shutil.copyfileobj(content, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        sync_folder(target.parent)
    except OSError as err:
        raise disk_problem(err, "copy the base to", target) from err


def _reflinked(source: BinaryIO, target: BinaryIO) -> bool:
    import fcntl

    with suppress(OSError):  # most file systems cannot, and none but Linux's knows the call
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        return True
    return False
