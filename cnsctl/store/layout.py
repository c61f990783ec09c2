"""A new store: written to a temporary folder, then moved into place.

Owns how it gets its place, its first files and how a base model is copied into it; must not know concepts.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from cnsctl.errors import BaseModelError, CnsctlError, UsageError
from cnsctl.store import catalogue
from cnsctl.store import manifest as manifest_file
from cnsctl.store.files import (
    TEMP_NAME,
    TEMP_PREFIX,
    disk_problem,
    make_folder,
    read_pieces,
    remove_unfinished,
    sync_folder,
    write_atomic,
    writing_new,
)
from cnsctl.store.lock import locked, locked_in
from cnsctl.store.signals import defer_signals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cnsctl.store.manifest import StoreManifest

BASE = "base"
BLOBS = "blobs"
CHECKPOINT = "checkpoint.safetensors"
"""In `base/`: the single file of a base model, if the store has a copy of it."""

CACHE = "cache"
DAMAGED = "damaged"
"""What `check --repair` moves away, because it cannot be read."""

MAX_BASE_FILE = 1 << 40
"""Bytes of a file of a base model: larger ones do not exist."""

INDEX = "index"
NAMES = "names"
WORK = "work"
LOCK = "lock"
TRAINING_LOCK = ".lock"
"""In `work/`, beside the folders, whose names are names of concepts."""

COMMITTING = "committing"
"""In `work/NAME/`: the blob of the delta whose commit began. If the catalogue lists it, the folder can be deleted."""

INIT_WAIT_S = 10.0
"""How long to wait for another process that creates a store in the same empty folder."""

_PARTS = (BASE, BLOBS, INDEX, NAMES, catalogue.FILE, manifest_file.COPY)
"""Parts of a new store, beside `store.json`."""

_CREATED = "the store was created"

_FICLONE = 0x40049409
"""Linux: share the blocks of another file until one of the two changes."""


def build(path: Path, manifest: StoreManifest, base_files: Path | None) -> list[str]:
    """Make a store without concepts at a path that is absent or an empty folder, whole or not at all.

    Args:
        path: of the store.
        manifest: what never changes in the store.
        base_files: folder whose files (those that the manifest lists, if it lists any) are copied into the store.

    Returns:
        What failed after the store was in place; each completes "saved, but …".

    Raises:
        BaseModelError: a file of the base model is missing.
        UsageError, DiskError: as from `creating`.
    """
    warnings: list[str] = []
    with creating(path, warnings, what="init") as folder:
        _fill(folder, manifest, base_files)
    return warnings


@contextmanager
def creating(path: Path, warnings: list[str], *, what: str) -> Iterator[Path]:
    """A folder that the block fills, and that becomes a store at its end: whole or not at all.

    The remains of killed calls are removed. A signal waits while the parts are moved into place.

    Args:
        path: of the store: absent, or an empty folder.
        warnings: gets what failed after the store was in place; each completes "saved, but …".
        what: what is being done, for the message of other processes.

    Raises:
        UsageError: something is at the path already.
        DiskError: full, read-only or failing.
    """
    path = absolute(path)
    _remove_abandoned(path)
    refuse_taken(path)
    with (_inside if path.is_dir() else _beside)(path, warnings, what) as folder:
        yield folder


@contextmanager
def _beside(path: Path, warnings: list[str], what: str) -> Iterator[Path]:
    """A temporary folder, which gets the name of the store."""
    make_folder(path.parent)
    temp = path.with_name(_temp_name(path))
    # the lock, which becomes that of the store, shows that the folder is not abandoned
    with _temporary(temp), locked_in(temp, LOCK, what=what, wait_s=INIT_WAIT_S):
        yield temp
        with defer_signals(_CREATED):
            _rename(temp, path)
            warnings += _synced(path.parent)


def absolute(path: Path) -> Path:
    """An absolute path without links. In a loop of links it names the link, which later calls refuse."""
    return type(path)(os.path.realpath(path))


def _rename(temp: Path, path: Path) -> None:
    try:
        os.rename(temp, path)  # noqa: PTH104  as in `files`
    except OSError as err:
        if err.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            refuse_taken(path)
        raise disk_problem(err, "create the store", path) from err


def is_unfinished(path: Path) -> bool:
    """Was a process killed here while it moved the parts of a new store into place?"""
    return bool(_moved_parts(path))


def _moved_parts(path: Path) -> set[str]:
    """Parts of a store that were moved out of a temporary folder, in which `store.json`, the last one, still is."""
    found: set[str] = set()
    with suppress(OSError):
        if not (path / manifest_file.FILE).exists():
            for temp in path.glob(f"{TEMP_PREFIX}*"):
                if (temp / manifest_file.FILE).exists():
                    found |= {part for part in _PARTS if (path / part).exists() and not (temp / part).exists()}
    return found


@contextmanager
def _inside(path: Path, warnings: list[str], what: str) -> Iterator[Path]:
    """A temporary folder in an empty one, which may be a mount point or in a folder without write permission."""
    with locked(path / LOCK, what=what, wait_s=INIT_WAIT_S):
        try:
            refuse_taken(path)  # another process may have been faster
            _remove_parts(path)
            remove_unfinished(path)
            with _temporary(path / _temp_name(path)) as temp:
                yield temp
                with defer_signals(_CREATED):
                    _move_parts(temp, path)
                    warnings += _synced(path)
        except BaseException:
            if not (path / manifest_file.FILE).exists():  # leave the folder as before
                with suppress(OSError):
                    (path / LOCK).unlink(missing_ok=True)
            raise


def _move_parts(temp: Path, path: Path) -> None:
    """Move the parts out of the temporary folder. `store.json` is last: it makes the folder a store."""
    try:
        for entry in sorted(temp.iterdir(), key=lambda e: e.name == manifest_file.FILE):
            if entry.name == manifest_file.FILE:  # after a power cut it must not be there without the others
                sync_folder(path)
            os.rename(entry, path / entry.name)  # noqa: PTH104  as in `files`
    except BaseException as err:
        _remove_parts(path)
        with suppress(OSError):  # the temporary folder is deleted, too
            (temp / manifest_file.FILE).unlink(missing_ok=True)
        if isinstance(err, OSError):
            raise disk_problem(err, "create the store", path) from err
        raise


def _remove_parts(path: Path) -> None:
    """Remove the parts of an incomplete store, but not the temporary folder, which shows what the parts are."""
    import shutil

    for name in _moved_parts(path):
        if (path / name).is_dir():
            shutil.rmtree(path / name, ignore_errors=True)
        else:
            with suppress(OSError):
                (path / name).unlink(missing_ok=True)


def _synced(folder: Path) -> list[str]:
    """Make the name of the store durable."""
    try:
        sync_folder(folder)
    except OSError as err:
        return [f"a power cut may undo it: {disk_problem(err, 'make durable', folder).what}"]
    return []


def _remove_abandoned(path: Path) -> None:
    """Remove temporary folders of killed processes that were creating a store beside this path."""
    known = {*_PARTS, manifest_file.FILE, LOCK}
    with suppress(OSError):
        for entry in path.parent.iterdir():
            if not TEMP_NAME.fullmatch(entry.name) or entry.is_symlink() or not entry.is_dir():
                continue
            with suppress(OSError):
                names = {part.name for part in entry.iterdir()}
                if not all(name in known or name.startswith(TEMP_PREFIX) for name in names):
                    continue  # not of this program
                # a process that fills it holds the lock, or makes the folder again
                with suppress(CnsctlError), locked(entry / LOCK, what="clean up"):
                    _delete(entry)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A folder that is deleted, with what is left in it, at the end of the block."""
    try:
        yield folder
    finally:
        _delete(folder)


def _delete(folder: Path) -> None:
    """Delete a folder, the lock last: it shows that what remains after a kill is of this program."""
    import shutil

    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != LOCK:
                entry.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _temp_stem(path: Path) -> str:
    return f"{TEMP_PREFIX}{path.name[:40]}"


def _temp_name(path: Path) -> str:
    return f"{_temp_stem(path)}-{os.getpid()}-{os.urandom(6).hex()}"


def _counts_as_empty(path: Path) -> bool:
    """Ignore what an empty disk's root contains and what a killed process left."""
    nothing = {LOCK, "lost+found", *_moved_parts(path)}
    return all(e.name in nothing or e.name.startswith(TEMP_PREFIX) for e in path.iterdir())


def refuse_taken(path: Path) -> None:
    """Check that a path is absent or an empty folder.

    Raises:
        UsageError: something is there already.
        DiskError: the folder cannot be read.
    """
    if (path / manifest_file.FILE).exists():
        raise UsageError(f"store already exists: {path}", reason="other-place")
    if (path.exists() or path.is_symlink()) and not path.is_dir():
        raise UsageError(f"not a folder: {path}", reason="other-place")
    try:
        is_empty = not path.exists() or _counts_as_empty(path)
    except OSError as err:
        raise disk_problem(err, "read the folder", path) from err
    if not is_empty:
        raise UsageError(f"folder is not empty: {path}", reason="other-place")


def _fill(folder: Path, manifest: StoreManifest, base_files: Path | None) -> None:
    make_folder(folder / BLOBS)
    if base_files is not None:
        names = sorted(manifest.base.files) or _names_in(base_files)
        for name in names:
            _copy(base_files / name, folder / BASE / name)
    write_atomic(folder / catalogue.FILE, catalogue.seal(catalogue.first_tables(manifest.base.n_weights)))
    write_atomic(folder / NAMES, b"")
    content = manifest_file.to_bytes(manifest)
    for name in (manifest_file.COPY, manifest_file.FILE):
        write_atomic(folder / name, content)


def _names_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _copy(source: Path, target: Path) -> None:
    """Copy a file durably. Not a hard link: editing the original must not edit the store's base model."""
    make_folder(target.parent)
    with writing_new(target) as copy:
        if not _reflinked(source, copy):
            for piece in _pieces(source):
                copy.write(piece)
    try:
        sync_folder(target.parent)
    except OSError as err:
        raise disk_problem(err, "write", target) from err


def _reflinked(source: Path, target: BinaryIO) -> bool:
    import fcntl

    with suppress(OSError), source.open("rb") as content:  # few file systems support it, and only on Linux
        fcntl.ioctl(target.fileno(), _FICLONE, content.fileno())
        return True
    return False


def _pieces(source: Path) -> Iterator[bytes]:
    """The content of a file of the base model."""
    try:
        yield from read_pieces(source, MAX_BASE_FILE)
    except FileNotFoundError as err:
        raise BaseModelError(f"file of the base model not found: {source}", hint="restore its folder") from err
    except CnsctlError as err:
        raise BaseModelError(f"cannot copy the base model: {err.what}", hint="restore its folder") from err
