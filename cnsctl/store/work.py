"""Training state on disk: one folder per name while a concept is trained.

Owns who may write there, which runs are unfinished and when a folder is deleted; must not know what the files contain.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cnsctl.concept import NAME
from cnsctl.data.names import check_name
from cnsctl.errors import CnsctlError, ConceptNotFoundError, NameTakenError, StoreLockedError
from cnsctl.store import layout
from cnsctl.store.files import (
    TEMP_PREFIX,
    disk_problem,
    entries_of,
    read_bounded,
    remove_unfinished,
    sync_folder,
    write_atomic,
)
from cnsctl.store.lock import Holder, holder_of, locked, locked_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RESERVE_WAIT_S = 0.5
"""How long to wait for a folder: a process that cleans it up needs milliseconds, one that trains there minutes."""


class Work:
    """The folders of training state of one store.

    A folder outlives the process, so that the same command resumes the training. It is deleted by `discard`, or when its
    concept is found in the store.
    """

    def __init__(self, folder: Path, is_saved: Callable[[str], bool]) -> None:
        """`is_saved` returns whether a concept with this delta (a blob's name) is in the store."""
        self._folder = folder
        self._is_saved = is_saved
        self._reserved: set[str] = set()

    @contextmanager
    def reserve(self, name: str, verb: str = "add") -> Iterator[Path]:
        """Hold a name while a concept is made under it; yields the folder of its training state.

        The folder is kept after the block unless it is empty.

        Raises:
            InvalidNameError: it cannot be the name of a concept.
            StoreLockedError: another process trains under this name.
        """
        folder = self._of(name)
        with locked_in(folder, layout.LOCK, what=f"{verb} {name}", wait_s=RESERVE_WAIT_S):
            self._reserved.add(name)
            try:
                self._tidy(folder)
                yield folder
            finally:
                self._reserved.discard(name)
                _remove_if_empty(folder)

    def is_reserved(self, name: str) -> bool:
        """Has this object reserved the name?"""
        return name in self._reserved

    def refuse_in_training(self, name: str, *, interrupted: bool = True) -> None:
        """Check that a name is not reserved for a training run, unless this object has reserved it.

        Args:
            name: of a concept that is about to appear or to disappear.
            interrupted: also refuse the name of an interrupted run.

        Raises:
            StoreLockedError: another process trains under this name.
            NameTakenError: a run under this name was interrupted.
        """
        folder = self._of(name)
        if name in self._reserved or not folder.is_dir():
            return
        try:
            with suppress(FileNotFoundError), locked(folder / layout.LOCK, what=f"look at {name}"):
                _remove_if_empty(folder)
        except StoreLockedError as err:
            raise StoreLockedError(
                f"the name {name!r} is in training: {err.what}", hint="wait until it ends, or use another name"
            ) from err
        if interrupted and name in self.unfinished():
            raise NameTakenError(
                f"the name {name!r} has an interrupted training run", reason="name-unfinished", name=name
            )

    def rename(self, old: str, new: str) -> list[str]:
        """Give an interrupted training run another name, under which the same call continues it.

        Returns:
            What failed after it was renamed; each completes "saved, but …".

        Raises:
            ConceptNotFoundError: no run under the old name was interrupted.
            StoreLockedError: another process trains under one of the names.
            NameTakenError: a run under the new name was interrupted.
            DiskError: it cannot be renamed.
        """
        self.refuse_in_training(new)
        if old not in self.unfinished():
            raise ConceptNotFoundError(f"no unfinished training run of {old[:80]!r}")
        with self.reserve(old) as source:
            try:
                os.rename(source, self._of(new))  # noqa: PTH104  as in `files`
            except OSError as err:
                if err.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    raise StoreLockedError(
                        f"the name {new!r} is in training", hint="wait until it ends, or use another name"
                    ) from err
                raise disk_problem(err, "rename the training state in", source) from err
            try:
                sync_folder(self._folder)
            except OSError as err:
                return [f"a power cut may undo it: {disk_problem(err, 'make durable', self._of(new)).what}"]
        return []

    @contextmanager
    def training(self) -> Iterator[None]:
        """Hold the right to train in merged mode, where only one concept can be trained at a time.

        Raises:
            StoreLockedError: another process is training.
        """
        with locked_in(self._folder, layout.TRAINING_LOCK, what="train in merged mode"):
            yield

    def unfinished(self) -> list[str]:
        """Names whose training began and is not in the store, sorted."""
        found = []
        with suppress(FileNotFoundError):
            for folder in entries_of(self._folder):
                with suppress(FileNotFoundError):  # another process may finish its run meanwhile
                    names = {entry.name for entry in entries_of(folder)} - {layout.LOCK}
                    if NAME.fullmatch(folder.name) and names and not self._is_done(folder):
                        found.append(folder.name)
        return found

    def begun(self) -> list[str]:
        """Names whose training runs now or is unfinished, sorted. One that has just begun has only its lock."""
        running = []
        with suppress(OSError):
            running = [f.name for f in self._folder.iterdir() if NAME.fullmatch(f.name) and self.holder(f.name)]
        return sorted({*self.unfinished(), *running})

    def holder(self, name: str) -> Holder | None:
        """The process that trains under a name; None if no process does."""
        return holder_of(self._of(name) / layout.LOCK)

    def folder(self, name: str) -> Path:
        """Of the training state of a name, whether it exists or not."""
        return self._of(name)

    def will_commit(self, name: str, delta: str) -> None:
        """Record in a reserved folder which delta is about to be committed, by its blob.

        If the process is killed between the commit and `discard`, the next command detects that the run is finished.

        Raises:
            DiskError: full, read-only or failing.
        """
        write_atomic(self._of(name) / layout.COMMITTING, delta.encode("ascii"))

    def discard(self, name: str) -> None:
        """Delete the training state of a name, unless another process uses it.

        Raises:
            InvalidNameError: it cannot be the name of a concept.
            DiskError: it cannot be deleted.
        """
        folder = self._of(name)
        if name not in self._reserved:
            if folder.is_dir():
                with suppress(StoreLockedError), self.reserve(name):
                    self.discard(name)
            return
        try:
            _clear(folder)
            sync_folder(folder)  # it contains the user's images, encoded
        except OSError as err:
            raise disk_problem(err, "remove the training state in", folder) from err

    def sweep(self) -> None:
        """Tidy the folders that no process uses, and delete the empty ones."""
        with suppress(OSError):
            for folder in self._folder.iterdir():
                with suppress(OSError, StoreLockedError):
                    if _has_leftovers(folder):
                        with locked(folder / layout.LOCK, what="clean up"):
                            self._tidy(folder)
                            _remove_if_empty(folder)

    def _of(self, name: str) -> Path:
        return self._folder / check_name(name)

    def _is_done(self, folder: Path) -> bool:
        """Is the concept that was trained in this folder in the store already?"""
        try:
            delta = read_bounded(folder / layout.COMMITTING, 64).decode("ascii", "replace")
        except (FileNotFoundError, CnsctlError):
            return False
        return self._is_saved(delta)

    def _tidy(self, folder: Path) -> None:
        """Under its lock: delete what killed commands left in a folder."""
        remove_unfinished(folder)
        with suppress(OSError):
            if self._is_done(folder):
                _clear(folder)
            (folder / layout.COMMITTING).unlink(missing_ok=True)


def _has_leftovers(folder: Path) -> bool:
    """Did a killed command leave an empty folder, a temporary file or the record of a commit?"""
    names = [entry.name for entry in folder.iterdir()]
    return names == [layout.LOCK] or any(n == layout.COMMITTING or n.startswith(TEMP_PREFIX) for n in names)


def _clear(folder: Path) -> None:
    """Delete all but the lock. The record of the commit is last: it shows that the rest can be deleted."""
    import shutil

    for entry in sorted(folder.iterdir(), key=lambda e: e.name == layout.COMMITTING):
        if entry.name == layout.COMMITTING:  # after a power cut it must not be gone without the rest
            sync_folder(folder)
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != layout.LOCK:
            entry.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    """Under its lock: delete a folder that contains only the lock."""
    with suppress(OSError):
        if [entry.name for entry in folder.iterdir()] == [layout.LOCK]:
            (folder / layout.LOCK).unlink()
            folder.rmdir()
