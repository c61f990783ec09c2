"""A store on disk: opened for reading, changed by transactions.

Owns the life of a store and what can be asked of it; must not know models, terminals or how files are written.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.concept import NAME
from cnsctl.data.names import check_name
from cnsctl.errors import CnsctlError, StoreDamagedError, StoreLockedError, StoreNotFoundError, UsageError
from cnsctl.store import blobs, catalogue, layout, manifest
from cnsctl.store.files import (
    TEMP_PREFIX,
    disk_problem,
    make_folder,
    read_bounded,
    remove_unfinished,
    write_atomic,
)
from cnsctl.store.lock import locked, locked_in
from cnsctl.store.manifest import BaseRecord, StoreManifest
from cnsctl.store.records import free_of
from cnsctl.store.signals import defer_signals
from cnsctl.store.snapshot import Snapshot, snapshot_of
from cnsctl.store.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnsctl.concept import Delta, Mode
    from cnsctl.results import Free
    from cnsctl.store.catalogue import Catalogue
    from cnsctl.store.index import Index
    from cnsctl.store.records import ConceptRecord, RunRecord

COMMIT_WAIT_S = 60.0
"""How long a transaction waits for another one: a commit takes seconds, and what waits took minutes to learn."""

RESERVE_WAIT_S = 0.5
"""How long to wait for a work folder: whoever cleans it up needs milliseconds, whoever trains there minutes."""

_CACHE_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,120}")
_MAX_CACHED = 2 << 30


class Store:
    """A folder of concepts. Reading takes no lock and writes nothing; each answer is of one committed state."""

    def __init__(self, path: Path, birth: StoreManifest) -> None:
        self._path = path
        self._birth = birth
        self._reserved: set[str] = set()
        self.warnings: list[str] = []
        """What failed after a change had been saved: each completes "saved, but …". Whoever shows one takes it out."""
        self._read: tuple[tuple[int, ...], Catalogue, Snapshot] | None = None

    @classmethod
    def create(cls, path: Path, *, base: BaseRecord, mode: Mode, created: str, base_files: Path | None = None) -> Store:
        """Make a new store, whole or not at all.

        Args:
            path: nothing, or an empty folder.
            base: what it is made on.
            mode: how its deltas will act.
            created: ISO 8601, UTC.
            base_files: folder to copy the base from, when the store shall hold it.

        Raises:
            UsageError: something is at the path already.
            BaseModelError: a file of the base is missing.
            DiskError: full, read-only or failing.
        """
        _refuse_windows()
        birth = StoreManifest(base=base, mode=mode, created=created)
        warnings = layout.build(path, birth, base_files)
        store = cls(path, birth)
        store.warnings += warnings
        return store

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open a store for reading.

        Raises:
            StoreNotFoundError: there is none.
            StoreDamagedError, FormatTooNewError: by its `store.json`.
        """
        _refuse_windows()
        try:
            content = read_bounded(path / manifest.FILE, manifest.MAX_BYTES)
        except FileNotFoundError as err:
            if (path / catalogue.FILE).exists() and not layout.is_unfinished(path):
                raise StoreDamagedError(f"{path / manifest.FILE} is missing", hint="restore it from a backup") from err
            raise StoreNotFoundError(f"store not found: {path}", reason="store-missing") from err
        return cls(path, manifest.birth_from_bytes(content, str(path / manifest.FILE)))

    @property
    def path(self) -> Path:
        return self._path

    @property
    def mode(self) -> Mode:
        return self._birth.mode

    @property
    def base(self) -> BaseRecord:
        return self._birth.base

    @property
    def created(self) -> str:
        return self._birth.created

    @property
    def base_folder(self) -> Path:
        """Where the base is, when the store holds it itself."""
        return self._path / layout.BASE

    @property
    def cache_folder(self) -> Path:
        """Of files that may vanish at any time. It need not exist."""
        return self._path / layout.CACHE

    def snapshot(self) -> Snapshot:
        """The committed state. Each version of the catalogue is read and checked once, however often this is asked.

        Raises:
            StoreDamagedError, FormatTooNewError: by the catalogue.
        """
        return self._current()[1]

    def concepts(self) -> Sequence[ConceptRecord]:
        """All concepts of the snapshot, in training order."""
        return self.snapshot().concepts

    def concept(self, name: str) -> ConceptRecord:
        """One concept of the snapshot.

        Raises:
            ConceptNotFoundError: with the nearest names.
        """
        return self.snapshot().concept(name)

    def runs(self) -> Sequence[RunRecord]:
        """The last training runs and removals, oldest first."""
        return self.snapshot().runs

    def free(self) -> Free:
        """Neurons that no concept owns: `neurons`, and `share` of the K/V weights."""
        return free_of(self.snapshot().state, self.base.n_weights)

    def generation(self) -> int:
        """Count of the changes of what can act on a prompt: it grows as concepts come and go, not by renaming."""
        return self.snapshot().generation

    @property
    def index(self) -> Index:
        """Who owns which neurons."""
        from cnsctl.store.index import Index

        return Index(folder=self._path / layout.INDEX, blobs=self._path / layout.BLOBS, sizes=self.base.sizes)

    def is_damaged(self, record: ConceptRecord) -> bool:
        """Is the file of a concept's delta missing, or of another size? A changed byte is found by reading it."""
        try:
            return (self._path / layout.BLOBS / record["delta"]).stat().st_size != record["bytes"]
        except OSError:
            return True

    def delta(self, record: ConceptRecord) -> Delta:
        """A concept's delta, verified, and of this store's base.

        Raises:
            StoreDamagedError: missing, damaged, or of another base; the message names the concept.
        """
        from cnsctl.formats.delta import decode_delta

        try:
            delta = decode_delta(self.blob(record["delta"]))
        except StoreDamagedError as err:
            raise StoreDamagedError(
                f"cannot read the concept {record['name']!r}: {err.what}",
                reason="damaged-concept",
                name=record["name"],
            ) from err
        if delta.fingerprint != self.base.fingerprint or dict(delta.shapes) != dict(self.base.sites):
            raise StoreDamagedError(
                f"the delta of {record['name']!r} was trained on another base model: {delta.fingerprint[:12]}",
                note=f"the base model of the store: {self.base.fingerprint[:12]}",
                reason="damaged-concept",
                name=record["name"],
            )
        return delta

    def blob(self, sha: str) -> bytes:
        """A blob, verified.

        Raises:
            StoreDamagedError: missing or damaged.
        """
        return blobs.get(self._path / layout.BLOBS, sha)

    @contextmanager
    def transaction(self, what: str, *, wait_s: float = COMMIT_WAIT_S) -> Iterator[Transaction]:
        """Change the store: all that the block does becomes true at its end, at once and durably, or nothing does.

        What fails after that is no failure of the change; it is in `warnings`. A signal that comes during the commit
        waits for its end.

        Args:
            what: what is being done, for the message that others get: "add dog".
            wait_s: how long to wait for another writer.

        Raises:
            StoreLockedError: another process writes for longer than that.
            DiskError: full, read-only or failing: the old or the new state is there.
        """
        with ExitStack() as held:
            try:
                held.enter_context(locked(self._path / layout.LOCK, what=what, wait_s=wait_s))
            except FileNotFoundError as err:
                raise StoreNotFoundError(f"store not found any more: {self._path}", reason="store-gone") from err
            for folder in (self._path, self._path / layout.BLOBS, self._path / layout.INDEX, self.cache_folder):
                remove_unfinished(folder)
            self._sweep_work()
            tx = Transaction(self._path, self._birth, self._current(anew=True)[0])
            yield tx
            with defer_signals("the change is saved"):
                if tx.commit():
                    self.warnings += tx.warnings
                    self._list_names(tx.names())

    def _list_names(self, names: Sequence[str]) -> None:
        """Write the list for shell completion, which may lag."""
        try:
            write_atomic(self._path / layout.NAMES, "".join(f"{name}\n" for name in names).encode("ascii"))
        except CnsctlError as err:
            self.warnings.append(f"shell completion may miss it: {err.what}")

    @contextmanager
    def reserve(self, name: str) -> Iterator[Path]:
        """Hold a name while it is being learned; gives the folder of its unfinished work.

        The folder outlives the block, so that a later one goes on, unless nothing was put into it.

        Raises:
            StoreLockedError: another process learns under this name.
        """
        folder = self._work(name)
        with locked_in(folder, layout.LOCK, what=f"add {name}", wait_s=RESERVE_WAIT_S):
            self._reserved.add(name)
            try:
                self._tidy(folder)
                yield folder
            finally:
                self._reserved.discard(name)
                _remove_if_empty(folder)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Hold the right to learn, where each concept is learned on top of the others and only one can be at a time.

        Raises:
            StoreLockedError: another process is learning.
        """
        with locked_in(self._path / layout.WORK, layout.TRAINING_LOCK, what="learn in merged mode"):
            yield

    def unfinished(self) -> list[str]:
        """Names under which a learning was begun and not committed, in order."""
        found = []
        with suppress(FileNotFoundError):
            for folder in sorted((self._path / layout.WORK).iterdir()):
                with suppress(FileNotFoundError, NotADirectoryError):  # another process may end its work meanwhile
                    names = {entry.name for entry in folder.iterdir()} - {layout.LOCK}
                    if NAME.fullmatch(folder.name) and names and not self._is_saved(folder):
                        found.append(folder.name)
        return found

    def will_commit(self, name: str, delta: str) -> None:
        """Note in a reserved work folder which delta is about to be committed, by its blob.

        If the process is killed between the commit and `discard_work`, the next command finds out that the work is done.

        Raises:
            DiskError: full, read-only or failing.
        """
        write_atomic(self._work(name) / layout.COMMITTING, delta.encode("ascii"))

    def discard_work(self, name: str) -> None:
        """Remove the unfinished work under a name, unless another process is at it.

        Raises:
            DiskError: it cannot be removed.
        """
        folder = self._work(name)
        if name not in self._reserved:
            if folder.is_dir():
                with suppress(StoreLockedError), self.reserve(name):
                    self.discard_work(name)
            return
        try:
            _clear(folder)
        except OSError as err:
            raise disk_problem(err, "remove the training state in", folder) from err

    def _is_saved(self, folder: Path) -> bool:
        """Is the concept that was trained in this work folder in the store already?"""
        try:
            delta = read_bounded(folder / layout.COMMITTING, 64).decode("ascii", "replace")
        except (FileNotFoundError, CnsctlError):
            return False
        return any(record["delta"] == delta for record in self.concepts())

    def _tidy(self, folder: Path) -> None:
        """Under its lock: remove what killed commands left in a work folder."""
        remove_unfinished(folder)
        with suppress(OSError):
            if self._is_saved(folder):
                _clear(folder)
            (folder / layout.COMMITTING).unlink(missing_ok=True)

    def _sweep_work(self) -> None:
        """Tidy the work folders that nobody is using, and remove those in which nothing is left."""
        with suppress(OSError):
            for folder in (self._path / layout.WORK).iterdir():
                with suppress(OSError, StoreLockedError):
                    if _has_leftovers(folder):
                        with locked(folder / layout.LOCK, what="clean up"):
                            self._tidy(folder)
                            _remove_if_empty(folder)

    def cached(self, key: str) -> bytes | None:
        """What was cached under a key, or None. Unverified: the reader must recognise damage."""
        try:
            return read_bounded(self._cache_file(key), _MAX_CACHED)
        except (FileNotFoundError, CnsctlError):
            return None

    def cache(self, key: str, data: bytes) -> None:
        """Cache data under a key, if the disk lets us."""
        with suppress(CnsctlError):
            make_folder(self.cache_folder)
            write_atomic(self._cache_file(key), data)

    def _current(self, *, anew: bool = False) -> tuple[Catalogue, Snapshot]:
        """The catalogue on disk. It is replaced, never written to, so another version is another file.

        `anew`: read it in any case, and check it if its bytes are others: file systems may reuse inode and time.
        """
        try:
            found = (self._path / catalogue.FILE).stat()
            version: tuple[int, ...] = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:  # reading it says what is wrong
            version = ()
        if anew or self._read is None or self._read[0] != version:
            known = None if self._read is None else self._read[1]
            content = catalogue.load(self._path, known)
            self._read = (version, content, snapshot_of(content))
        return self._read[1:]

    def _work(self, name: str) -> Path:
        return self._path / layout.WORK / check_name(name)

    def _cache_file(self, key: str) -> Path:
        if not _CACHE_KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of the cache")
        return self.cache_folder / key


def default_path() -> Path:
    """Where the store is when nothing is said: `CNSCTL_STORE`, else the platform's user-data folder."""
    if named := os.environ.get("CNSCTL_STORE"):
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_data_dir("cnsctl"))


def _refuse_windows() -> None:
    if sys.platform == "win32":
        raise UsageError("Windows is not supported", hint="install it inside WSL: wsl --install")


def _has_leftovers(folder: Path) -> bool:
    """Did a killed command leave more than training state here, or less?"""
    names = [entry.name for entry in folder.iterdir()]
    return names == [layout.LOCK] or any(n == layout.COMMITTING or n.startswith(TEMP_PREFIX) for n in names)


def _clear(folder: Path) -> None:
    """Remove everything in a work folder but the lock; last the note which tells that the rest can go."""
    import shutil

    for entry in sorted(folder.iterdir(), key=lambda e: e.name == layout.COMMITTING):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != layout.LOCK:
            entry.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    """Under its lock: remove a work folder that holds nothing but the lock."""
    with suppress(OSError):
        if [entry.name for entry in folder.iterdir()] == [layout.LOCK]:
            (folder / layout.LOCK).unlink()
            folder.rmdir()
