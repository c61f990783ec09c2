"""A new store: made whole beside its place, or inside an empty folder, then moved there.

Owns which files a store begins with and how a base is copied into it; must not know concepts.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from cnsctl.errors import BaseProblem, CnsctlError, UsageProblem
from cnsctl.store import catalogue, reference
from cnsctl.store.files import (
    TEMP_PREFIX,
    disk_problem,
    make_folder,
    remove_unfinished,
    sync_folder,
    write_atomic,
)
from cnsctl.store.lock import locked, locked_in
from cnsctl.store.signals import defer_signals

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

COMMITTING = "committing"
"""In `work/NAME/`: the blob of the delta whose commit began. If the catalogue lists it, the rest of the folder can go."""

INIT_WAIT_S = 10.0
"""How long to wait for another process that makes a store in the same empty folder."""

_PARTS = (BASE, BLOBS, NAMES, catalogue.FILE)
"""Of a new store, beside `store.json`."""

_MADE = "the store is made"

_FICLONE = 0x40049409
"""Linux: share the blocks of another file until one of both changes."""


def build(path: Path, birth: Birth, base_files: Path | None) -> list[str]:
    """Make a store at a path where nothing is, or an empty folder. It is there whole or not at all.

    What an earlier call left that was killed is removed. A signal waits while the parts are moved into place.

    Args:
        path: of the store.
        birth: what never changes in it.
        base_files: folder whose files (those that the reference lists, if it lists any) become the store's own base.

    Returns:
        What failed after the store was there, in words that complete "saved, but …".

    Raises:
        UsageProblem: something is at the path already.
        BaseProblem: a file of the base is missing.
        DiskProblem: full, read-only or failing.
    """
    path = path.resolve()
    _remove_abandoned(path)
    _refuse_taken(path)
    if path.is_dir():
        return _build_inside(path, birth, base_files)
    make_folder(path.parent)
    temp = path.with_name(_temp_name(path))
    # the lock, which becomes the store's own, shows that the folder is not abandoned
    with _temporary(temp), locked_in(temp, LOCK, what="init", wait_s=INIT_WAIT_S):
        _fill(temp, birth, base_files)
        with defer_signals(_MADE):
            _rename(temp, path)
            return _synced(path.parent)


def _rename(temp: Path, path: Path) -> None:
    try:
        os.rename(temp, path)  # noqa: PTH104  as in `files`
    except OSError as err:
        if err.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            _refuse_taken(path)
        raise disk_problem(err, "make the store", path) from err


def is_unfinished(path: Path) -> bool:
    """Was an `init` killed here while it moved the parts of a store into place?"""
    return bool(_moved_parts(path))


def _moved_parts(path: Path) -> set[str]:
    """Parts of a store that were moved out of a temporary folder, in which `store.json`, the last one, still is."""
    found: set[str] = set()
    with suppress(OSError):
        if not (path / reference.FILE).exists():
            for temp in path.glob(f"{TEMP_PREFIX}*"):
                if (temp / reference.FILE).exists():
                    found |= {part for part in _PARTS if (path / part).exists() and not (temp / part).exists()}
    return found


def _build_inside(path: Path, birth: Birth, base_files: Path | None) -> list[str]:
    """Fill an empty folder, which may be a mount point or lie where nothing else can be made."""
    with locked(path / LOCK, what="init", wait_s=INIT_WAIT_S):
        try:
            _refuse_taken(path)  # another process may have been faster
            _remove_parts(path)
            remove_unfinished(path)
            with _temporary(path / _temp_name(path)) as temp:
                _fill(temp, birth, base_files)
                with defer_signals(_MADE):
                    _move_parts(temp, path)
                    return _synced(path)
        except BaseException:
            if not (path / reference.FILE).exists():  # leave the folder as it was
                with suppress(OSError):
                    (path / LOCK).unlink(missing_ok=True)
            raise


def _move_parts(temp: Path, path: Path) -> None:
    """Move what is in the temporary folder into the store's; `store.json`, the last part, makes it one."""
    try:
        for entry in sorted(temp.iterdir(), key=lambda e: e.name == reference.FILE):
            os.rename(entry, path / entry.name)  # noqa: PTH104  as in `files`
    except BaseException as err:
        _remove_parts(path)
        (temp / reference.FILE).unlink(missing_ok=True)
        if isinstance(err, OSError):
            raise disk_problem(err, "make the store", path) from err
        raise


def _remove_parts(path: Path) -> None:
    """Remove the parts of a store that was not completed, but not the temporary folder, which shows that they are."""
    import shutil

    for name in _moved_parts(path):
        if (path / name).is_dir():
            shutil.rmtree(path / name, ignore_errors=True)
        else:
            with suppress(OSError):
                (path / name).unlink(missing_ok=True)


def _synced(folder: Path) -> list[str]:
    """Make the store's name durable."""
    try:
        sync_folder(folder)
    except OSError as err:
        return [f"a power cut may undo it: {disk_problem(err, 'make durable', folder).what}"]
    return []


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary folders, beside the place of a store, of processes that were killed while they made it."""
    import shutil

    ours = re.compile(rf"{re.escape(_temp_stem(path))}-\d+-[0-9a-f]{{12}}")
    with suppress(OSError):
        for entry in path.parent.iterdir():
            if ours.fullmatch(entry.name) and entry.is_dir():
                # who fills it holds the lock, or finds the folder gone and makes it again
                with suppress(OSError, CnsctlError), locked(entry / LOCK, what="clean up"):
                    shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A folder that is gone, with what is left in it, at the end of the block."""
    import shutil

    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temp_stem(path: Path) -> str:
    return f"{TEMP_PREFIX}{path.name[:40]}"


def _temp_name(path: Path) -> str:
    return f"{_temp_stem(path)}-{os.getpid()}-{os.urandom(6).hex()}"


def _counts_as_empty(path: Path) -> bool:
    """Of a fresh disk's root and of what a killed `init` left there, nothing counts."""
    nothing = {LOCK, "lost+found", *_moved_parts(path)}
    return all(e.name in nothing or e.name.startswith(TEMP_PREFIX) for e in path.iterdir())


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
