"""Migrating a store: its files of an older format are written in the newest one, and kept as they were.

The new version reads any mix of formats, so each file is replaced on its own: a crash in between loses nothing, and a second
call continues. The old files are kept in `before-migration/`, in a folder of the version that has migrated them.

Owns the order of these steps; must not know what differs between formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cnsctl
from cnsctl.errors import StoreDamagedError, UsageError
from cnsctl.store import catalogue
from cnsctl.store import manifest as manifest_file
from cnsctl.store.files import make_folder, read_bounded, write_atomic
from cnsctl.store.lock import refuse_lost
from cnsctl.store.signals import defer_signals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cnsctl.store.store import Store

KEPT = "before-migration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Older:
    """A file of an older format."""

    name: str
    format: int
    newest: int
    before: bytes
    after: bytes
    """The same in the newest format."""


def older_files(folder: Path) -> list[Older]:
    """The files of a store that have an older format, in the order in which they are replaced. `store.json` is last.

    Raises:
        StoreDamagedError: one cannot be read.
        FormatTooNewError: one is of a newer cnsctl.
    """
    return [found for found in _files(folder) if found.format < found.newest]


def _files(folder: Path) -> Iterator[Older]:
    for name in (catalogue.PREVIOUS, catalogue.FILE):
        try:
            content = read_bounded(folder / name, catalogue.MAX_BYTES)
            found = catalogue.unseal(content, str(folder / name))
        except (FileNotFoundError, StoreDamagedError) as err:
            if name == catalogue.PREVIOUS:  # a new store has none; a damaged one is repaired by `check`
                continue
            if isinstance(err, FileNotFoundError):
                raise StoreDamagedError(f"{folder / name} is missing", hint="restore it from a backup") from err
            raise
        after = content if found.format == catalogue.FORMAT else catalogue.seal(found.tables)
        yield Older(name=name, format=found.format, newest=catalogue.FORMAT, before=content, after=after)
    after = manifest_file.to_bytes(manifest_file.load(folder)[0])
    for name in (manifest_file.COPY, manifest_file.FILE):
        try:
            before = manifest_file.intact(folder / name)
        except (FileNotFoundError, StoreDamagedError):
            continue  # the other one is intact
        number = manifest_file.from_bytes(before, name).format
        yield Older(name=name, format=number, newest=manifest_file.FORMAT, before=before, after=after)


def migrate(store: Store) -> tuple[list[Older], Path]:
    """Write every file of an older format in the newest one.

    Returns:
        The files, and the folder in which they are kept as they were.

    Raises:
        StoreLockedError: another process holds the lock.
        StoreDamagedError, FormatTooNewError: a file cannot be read.
        DiskError: full, read-only or failing; a second call continues.
    """
    kept = store.path / KEPT / cnsctl.__version__
    with store.locked("migrate") as is_locked:
        found = older_files(store.path)
        if found:
            make_folder(kept)
        for file in found:
            write_atomic(kept / file.name, file.before)
        with defer_signals("the store is migrated"):
            for file in found:
                write_atomic(store.path / file.name, file.after, before=lambda: refuse_lost(is_locked, store.path))
    return found, kept


def go_back(store: Store) -> list[Older]:
    """Write the kept files back, for the version of cnsctl that wrote them.

    Returns:
        The files.

    Raises:
        UsageError: nothing is kept, or concepts have changed since.
        StoreLockedError: another process holds the lock.
        DiskError: full, read-only or failing; a second call continues.
    """
    with store.locked("migrate --back") as is_locked:
        found = kept_files(store)
        with defer_signals("the store is as before"):
            for file in reversed(found):
                write_atomic(store.path / file.name, file.before, before=lambda: refuse_lost(is_locked, store.path))
    return found


def kept_files(store: Store) -> list[Older]:
    """What this version of cnsctl has migrated, as it was.

    Raises:
        UsageError: nothing is kept, or concepts have changed since.
    """
    kept = store.path / KEPT / cnsctl.__version__
    nothing = UsageError(
        f"nothing to go back to: {store.path}", note="this version has not migrated it", reason="no-migration"
    )
    if not kept.is_dir():
        raise nothing
    manifest = manifest_file.to_bytes(store.manifest)
    found = []
    for name in (catalogue.PREVIOUS, catalogue.FILE, manifest_file.COPY, manifest_file.FILE):
        try:
            before = read_bounded(kept / name, catalogue.MAX_BYTES)
        except FileNotFoundError:
            continue
        if name in (manifest_file.COPY, manifest_file.FILE):
            old = manifest_file.from_bytes(before, str(kept / name))
            number, newest, is_same = old.format, manifest_file.FORMAT, manifest_file.to_bytes(old) == manifest
        else:
            tables = catalogue.unseal(before, str(kept / name))
            number, newest = tables.format, catalogue.FORMAT
            is_same = name == catalogue.PREVIOUS or tables.tables == store.catalogue().tables
        if not is_same:
            raise UsageError(
                f"the store has changed since it was migrated: {store.path}",
                note=f"the files from before are in {kept}",
                reason="no-way-back",
            )
        found.append(Older(name=name, format=number, newest=newest, before=before, after=b""))
    if not found:
        raise nothing
    return found
