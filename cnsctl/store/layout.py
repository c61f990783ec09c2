"""A new store: made whole beside its place, or inside an empty folder, then moved there.

Owns which files a store begins with and how a base is copied into it; must not know concepts.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from cnsctl.errors import BaseProblem, CnsctlError, UsageProblem
from cnsctl.store import catalogue, reference
from cnsctl.store.files import TEMP_PREFIX, disk_problem, make_folder, sync_folder, write_atomic
from cnsctl.store.lock import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cnsctl.store.reference import Birth

BASE = "base"
BLOBS = "blobs"
CACHE = "cache"
INDEX = "index"
NAMES = "names"
WORK = "work"
LOCK = "lock"
TRAINING_LOCK = ".lock"
"""In `work/`, beside folders that are named as concepts are."""

INIT_WAIT_S = 10.0
"""How long to wait for another process that makes a store in the same empty folder."""

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
    path = path.resolve()
    _refuse_taken(path)
    if path.is_dir():
        with locked(path / LOCK, what="init", wait_s=INIT_WAIT_S):
            try:
                _refuse_taken(path)  # another process may have been faster
                _build_inside(path, birth, base_files)
            except CnsctlError:
                if not (path / reference.FILE).exists():  # leave the folder as it was
                    (path / LOCK).unlink(missing_ok=True)
                raise
        return
    make_folder(path.parent)
    with _filled(path.with_name(_temp_name(path)), birth, base_files) as temp:
        try:
            os.rename(temp, path)  # noqa: PTH104  as in `files`
            sync_folder(path.parent)
        except OSError as err:
            if err.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                _refuse_taken(path)
            raise disk_problem(err, "make the store", path) from err


def _build_inside(path: Path, birth: Birth, base_files: Path | None) -> None:
    """Fill an empty folder, which may be a mount point or lie where nothing else can be made; `store.json` comes last."""
    import shutil

    moved: list[Path] = []
    with _filled(path / _temp_name(path), birth, base_files) as temp:
        try:
            for entry in sorted(temp.iterdir(), key=lambda e: e.name == reference.FILE):
                os.rename(entry, path / entry.name)  # noqa: PTH104  as in `files`
                moved.append(path / entry.name)
            sync_folder(path)
        except OSError as err:
            for entry in reversed(moved):
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
            raise disk_problem(err, "make the store", path) from err


@contextmanager
def _filled(temp: Path, birth: Birth, base_files: Path | None) -> Iterator[Path]:
    """A new store in a folder that is gone, with what is left in it, at the end of the block."""
    import shutil

    try:
        _fill(temp, birth, base_files)
        yield temp
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _temp_name(path: Path) -> str:
    return f"{TEMP_PREFIX}{path.name[:40]}-{os.getpid()}-{os.urandom(6).hex()}"


def _counts_as_empty(path: Path) -> bool:
    """Of a fresh disk's root and of what a killed `init` left there, nothing counts."""
    return all(e.name in (LOCK, "lost+found") or e.name.startswith(TEMP_PREFIX) for e in path.iterdir())


def _refuse_taken(path: Path) -> None:
    if (path / reference.FILE).exists():
        raise UsageProblem(
            f"there is a store at {path} already", hint="use it, or choose another place: --store FOLDER"
        )
    if path.exists() and not path.is_dir():
        raise UsageProblem(f"{path} is a file, no folder", hint="choose another place: --store FOLDER")
    try:
        is_empty = not path.exists() or _counts_as_empty(path)
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
