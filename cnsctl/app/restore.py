"""`restore`: a new store from a backup, whole or not at all.

Owns what is checked before the store gets its place; must not know the layout of the file.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cnsctl import results
from cnsctl.app.check import checked
from cnsctl.app.counting import Count
from cnsctl.app.output_paths import STDOUT
from cnsctl.app.stores import locate, open_store, refuse_taken
from cnsctl.errors import DiskError, StoreDamagedError, UsageError
from cnsctl.events import Event, Note, Warn
from cnsctl.store import Store, free_bytes
from cnsctl.store.backup_file import BackupReader
from cnsctl.store.layout import creating
from cnsctl.store.restore import Restoring

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


def restore(
    file: Path, path: Path | None = None, *, dry_run: bool = False, stdin: BinaryIO | None = None
) -> Generator[Event, None, results.RestoreResult]:
    """Create a store from a backup.

    Args:
        file: the backup; `-` for stdin.
        path: of the new store: absent, or an empty folder.
        dry_run: only read and check the file.
        stdin: for `-`.

    Raises:
        UsageError: something is at the path already, or the file does not exist.
        UnknownFormatError, DamagedFileError, FormatTooNewError: it is not a backup, damaged, or of a newer cnsctl.
        DiskError: full, read-only or failing.
    """
    if not dry_run:
        refuse_taken(path)
    with _opened(file, stdin) as stream:
        reader = BackupReader(stream, str(file))
        reading = Restoring(reader)
        if dry_run:
            yield from _read(reading)
            return _result(reading, file, None)
        target, warnings = locate(path), list[str]()
        _refuse_full(target, reading.n_bytes)
        with creating(target, warnings, what="restore") as folder:
            yield from _read(reading, folder)
            yield from _checked(reading, folder)
    store = open_store(path)
    yield from (Warn(text=f"saved, but {text}") for text in warnings)
    if (base := store.base).path is not None and not Path(base.path).exists():
        yield Note(text=f"the base model is not at {base.path}", reason="base-elsewhere")
    return _result(reading, file, store)


@contextmanager
def _opened(file: Path, stdin: BinaryIO | None) -> Iterator[BinaryIO]:
    if file == STDOUT and stdin is not None:
        yield stdin
        return
    try:
        stream = file.open("rb")
    except (FileNotFoundError, NotADirectoryError) as err:
        raise UsageError(f"file not found: {file}", reason="restore-file") from err
    except OSError as err:
        raise DiskError(f"cannot read {file}: {err.strerror}", reason="restore-file") from err
    with stream:
        yield stream


def _refuse_full(target: Path, needed: int) -> None:
    if needed > (free := free_bytes(target.absolute().parent)):
        raise DiskError(
            f"not enough space for {target}: {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free",
            reason="other-place",
        )


def _read(reading: Restoring, folder: Path | None = None) -> Generator[Event, None, None]:
    """Read the backup, and write its files to a folder, if there is one."""
    count = Count.percent("read the backup")
    yield count.begin()
    yield from count.shares(reading.to(folder))


def _checked(reading: Restoring, folder: Path) -> Generator[Event, None, None]:
    """Read every byte of the new store again."""
    try:
        _, found = yield from checked(Store(folder, reading.manifest), read_data=True)
    except StoreDamagedError as err:
        raise reading.reader.damaged(err.what) from err
    if found:
        raise reading.reader.damaged(f"{found[0].part}: {found[0].what}")


def _result(reading: Restoring, file: Path, store: Store | None) -> results.RestoreResult:
    base = reading.manifest.base
    return results.RestoreResult(
        store=None if store is None else str(store.path),
        dry_run=store is None,
        file=str(file),
        bytes=reading.n_bytes,
        files=len(reading.reader.members),
        concepts=tuple(reading.snapshot.names),
        mode=str(reading.manifest.mode),
        base=base.name,
        base_inside=base.path is None,
        base_path=base.path,
    )
