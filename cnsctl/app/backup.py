"""`backup`: one file with everything that a store needs, as of one moment.

Owns where the file goes, and what happens if the store changes meanwhile; must not know its layout.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from cnsctl import results
from cnsctl.app.counting import Count
from cnsctl.app.export_files import check_space, make_parent
from cnsctl.app.output_paths import STDOUT, check_folder
from cnsctl.app.stores import damage_of
from cnsctl.errors import DiskError, NotDurableError, StoreLockedError, UsageError
from cnsctl.events import Event, Note, Warn
from cnsctl.store import remove_abandoned, writing
from cnsctl.store.backup import Plan, Vanished, plan
from cnsctl.store.backup_file import ChangedMember, size_of, write_backup
from cnsctl.store.layout import absolute

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from cnsctl.store import Store

ATTEMPTS = 3
"""A command that removes concepts while they are written costs one."""


def backup(
    store: Store, file: Path, *, force: bool = False, with_base: bool = False, stdout: BinaryIO | None = None
) -> Generator[Event, None, results.BackupResult]:
    """Write a backup of the committed state; other commands may read and change the store meanwhile.

    Args:
        store: is only read.
        file: to write; `-` for stdout.
        force: overwrite the file.
        with_base: also a base model outside the store.
        stdout: for `-`.

    Raises:
        UsageError: the file exists, or is inside the store.
        StoreDamagedError: a file that a concept needs is missing or damaged.
        BaseModelError: a file of the base model is missing, or has changed.
        StoreLockedError: other commands remove what is being written, again and again.
        DiskError: full, read-only or failing.
    """
    yield from damage_of(store)
    if file != STDOUT:
        _check_place(store, file, force=force)
    for last in (*[False] * (ATTEMPTS - 1), True):
        try:
            planned = plan(store, with_base=with_base)
            yield from _written(planned, file, force=force, stdout=stdout)
            break
        except Vanished as err:
            if last or stdout is not None:
                raise StoreLockedError(
                    f"another process has removed what was being written: {store.path}", reason="backup-again"
                ) from err
    if unfinished := store.work.unfinished():
        names = ", ".join(f"<{name}>" for name in unfinished)
        yield Note(text=f"not in the backup: the unfinished training of {names}")
    return _result(planned, file, with_base=with_base)


def _check_place(store: Store, file: Path, *, force: bool) -> None:
    with _about(file):
        check_folder(file.parent)
    if file.is_dir():
        raise UsageError(f"the file would replace a folder: {file}", reason="backup-place")
    if absolute(file).is_relative_to(absolute(store.path)):
        raise UsageError(f"the backup would be inside the store: {file}", reason="backup-place")
    if file.exists() and not force:
        raise _exists(file)


@contextmanager
def _about(file: Path) -> Iterator[None]:
    """Errors about the place of the backup get their own advice: that of other places does not fit."""
    try:
        yield
    except (UsageError, DiskError) as err:
        if err.reason != "output" and err.facts.get("path") != str(file):
            raise
        raise type(err)(err.what, note=err.note, reason="backup-place") from err


def _exists(file: Path) -> UsageError:
    return UsageError(f"file already exists: {file}", reason="backup-exists")


def _written(planned: Plan, file: Path, *, force: bool, stdout: BinaryIO | None) -> Generator[Event, None, None]:
    """Write a backup to its place."""
    size = size_of(planned.members)
    count = Count.percent("write the backup")
    yield count.begin()
    if stdout is not None:
        yield from count.shares(_piped(planned, stdout, size))
        return
    with _about(file):
        make_parent(file)
        check_space(file.parent, size)
        remove_abandoned(file.parent)
        try:
            with writing(file, overwrite=force) as stream:
                yield from count.shares(_streamed(planned, stream, size))
        except FileExistsError as err:
            raise _exists(file) from err
        except NotDurableError as err:
            yield Warn(text=f"saved, but a power cut may undo it: {err.what}")


def _piped(planned: Plan, stdout: BinaryIO, size: int) -> Generator[float, None, None]:
    try:
        yield from _streamed(planned, stdout, size)
        stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as err:
        raise DiskError(f"cannot write to standard output: {err.strerror}", reason="backup-place") from err


def _streamed(planned: Plan, stream: BinaryIO, size: int) -> Generator[float, None, None]:
    """Write it; yields the share that is done."""
    done = 0
    try:
        for n_bytes in write_backup(stream, planned.members, planned.read):
            done += n_bytes
            yield done / size
    except ChangedMember as err:
        raise planned.changed(err.member) from err


def _result(planned: Plan, file: Path, *, with_base: bool) -> results.BackupResult:
    store, snapshot = planned.store, planned.snapshot
    inside = with_base or store.base.path is None
    return results.BackupResult(
        store=str(store.path),
        file=str(file),
        bytes=size_of(planned.members),
        files=len(planned.members),
        concepts=tuple(snapshot.names),
        base_inside=inside,
        base_path=None if inside else store.base.path,
    )
