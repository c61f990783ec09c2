"""Files that nothing refers to: which they are, and deleting them.

Owns what is kept: by the catalogue, its previous generation and training states; must not know why it became unreferenced.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.errors import CnsctlError
from cnsctl.store import catalogue, layout
from cnsctl.store.blobs import SHA256
from cnsctl.store.catalogue import concepts_of
from cnsctl.store.files import disk_problem, read_bounded, sync_folder, write_atomic
from cnsctl.store.index import files_of
from cnsctl.store.records import blobs_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from cnsctl.store.store import Store

GRACE_S = 3600.0
"""Files that are younger may belong to a commit in progress: on a disk without locks, this process cannot detect it."""

FOLDERS = (layout.BLOBS, layout.INDEX, layout.DAMAGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Some files."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was deleted, or would be, and what was not."""

    deleted: Amount
    young: Amount
    """Unreferenced, but not older than the grace period."""
    previous: Amount
    """Kept for `undo` alone."""


def collect(store: Store, *, dry_run: bool = False, grace_s: float = GRACE_S) -> Collected:
    """Delete the files that nothing refers to. Only the holder of the store's lock may call it without `dry_run`.

    Raises:
        StoreDamagedError: a generation cannot be read, so that it is unknown what it refers to.
        DiskError: a file cannot be deleted.
    """
    now, before = named_now(store), named_before(store)
    oldest = time.time() - grace_s
    sizes: dict[str, list[int]] = {"deleted": [], "young": [], "previous": []}
    for name in FOLDERS:
        folder, doomed = store.path / name, []
        for entry, status in _entries(folder):
            if entry.name in now:
                continue
            kind = "previous" if entry.name in before else "young" if status.st_mtime > oldest else "deleted"
            sizes[kind].append(status.st_size)
            doomed += [entry.path] if kind == "deleted" else []
        if doomed and not dry_run:
            _delete(folder, doomed)
    return Collected(**{kind: Amount(files=len(found), bytes=sum(found)) for kind, found in sizes.items()})


def purged(store: Store) -> list[str]:
    """After a commit: delete all that the catalogue does not refer to, and let the previous generation be this one.

    Returns:
        What failed; the removed concepts' files may remain.
    """
    try:
        collect(store, grace_s=-1.0)
        write_atomic(store.path / catalogue.PREVIOUS, catalogue.load(store.path).content)
    except CnsctlError as err:
        return [f"files of removed concepts may remain until cnsctl gc deletes them: {err.what}"]
    return []


def named_now(store: Store) -> set[str]:
    """Names of the files that the catalogue or a training state refers to."""
    found = store.snapshot()
    names = files_of(found.state).union(*map(blobs_of, found.concepts))
    for file in store.path.glob(f"{layout.WORK}/*/{layout.COMMITTING}"):
        with suppress(FileNotFoundError, CnsctlError):
            names.add(read_bounded(file, 64).decode("ascii", "replace"))
    return names


def named_before(store: Store) -> set[str]:
    """Names of the files that the previous generation refers to.

    Raises:
        StoreDamagedError: it is damaged.
    """
    try:
        tables = catalogue.load_previous(store.path).tables
    except FileNotFoundError:
        return set()
    (state,) = tables["state"].values()
    return files_of(state).union(*map(blobs_of, concepts_of(tables)))


def _entries(folder: Path) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """The files of a folder whose names are hashes. Others are not of this program."""
    try:
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if SHA256.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        yield entry, entry.stat(follow_symlinks=False)
    except OSError as err:
        raise disk_problem(err, "read the folder", folder) from err


def _delete(folder: Path, paths: Collection[str]) -> None:
    for path in paths:
        try:
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108  as in `files`
        except OSError as err:
            raise disk_problem(err, "delete", folder / path) from err
    try:
        sync_folder(folder)
    except OSError as err:
        raise disk_problem(err, "make durable", folder) from err
