"""A store on disk: opened for reading, changed by transactions.

Owns how a store is created, opened, read and changed; must not know models, terminals or how files are written.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from cnsctl.errors import CnsctlError, DiskError, FormatTooOldError, StoreDamagedError, StoreNotFoundError
from cnsctl.settings import WAIT_S
from cnsctl.store import blobs, catalogue, layout
from cnsctl.store import manifest as manifest_file
from cnsctl.store.cache import Cache
from cnsctl.store.files import remove_unfinished, write_atomic
from cnsctl.store.lock import locked, refuse_lost
from cnsctl.store.manifest import BaseRecord, MetricModel, StoreManifest
from cnsctl.store.place import refuse_windows
from cnsctl.store.records import free_of
from cnsctl.store.signals import defer_signals
from cnsctl.store.snapshot import Snapshot, snapshot_of
from cnsctl.store.transaction import Transaction
from cnsctl.store.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cnsctl.concept import Delta, Mode
    from cnsctl.results import Free
    from cnsctl.store.catalogue import Catalogue
    from cnsctl.store.index import Index
    from cnsctl.store.records import ConceptRecord, RunRecord


class Store:
    """A folder of concepts. Reading takes no lock and writes nothing; each call returns one committed state."""

    def __init__(self, path: Path, manifest: StoreManifest, *, wait_s: float = WAIT_S) -> None:
        self._path = path
        self._manifest = manifest
        self._wait_s = wait_s
        self.damage: list[str] = []
        """What was damaged when the store was opened, although it can be read. The caller that prints one removes it."""
        self.warnings: list[str] = []
        """What failed after a change was saved: each completes "saved, but …". The caller that prints one removes it."""
        self._read: tuple[tuple[int, ...], Catalogue, Snapshot] | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        base: BaseRecord,
        mode: Mode,
        created: str,
        base_files: Path | None = None,
        clip: MetricModel | None = None,
        judge: MetricModel | None = None,
    ) -> Store:
        """Make a new store, whole or not at all.

        Args:
            path: absent, or an empty folder.
            base: the base model that its concepts are trained on.
            mode: how its deltas act.
            created: ISO 8601, UTC.
            base_files: folder of a base model to copy into the store; None leaves it where it is.
            clip: the CLIP of CLIP-I and CLIP-T, in place of the base model's own.
            judge: a second backbone for the similarity of images.

        Raises:
            UsageError: something is at the path already.
            BaseModelError: a file of the base model is missing.
            DiskError: full, read-only or failing.
        """
        refuse_windows()
        new = StoreManifest(base=base, mode=mode, created=created, clip=clip, judge=judge)
        warnings = layout.build(path, new, base_files)
        store = cls(path, new)
        store.warnings += warnings
        return store

    @classmethod
    def open(cls, path: Path, *, wait_s: float = WAIT_S) -> Store:
        """Open a store for reading.

        Args:
            path: of the store.
            wait_s: how long a change waits for another writer.

        Raises:
            StoreNotFoundError: the path contains no store.
            StoreDamagedError, FormatTooNewError: `store.json` and its copy are damaged, or of a newer cnsctl.
        """
        refuse_windows()
        missing = StoreNotFoundError(f"store not found: {path}", reason="store-missing")
        try:
            found, damage = manifest_file.load(path)
        except FileNotFoundError as err:
            if (path / catalogue.FILE).exists() and not layout.is_unfinished(path):
                raise StoreDamagedError(
                    f"{path / manifest_file.FILE} is missing", hint="restore it from a backup"
                ) from err
            raise missing from err
        if damage is not None and layout.is_unfinished(path):
            raise missing
        store = cls(path, found, wait_s=wait_s)
        store.damage += [] if damage is None else [damage]
        return store

    @staticmethod
    def refuse_taken(path: Path) -> None:
        """Check that a store can be created at a path.

        Raises:
            UsageError: something is at the path already.
        """
        layout.refuse_taken(layout.absolute(path))

    @property
    def path(self) -> Path:
        return self._path

    @property
    def manifest(self) -> StoreManifest:
        """What never changes in the store, and where models outside it are."""
        return self._manifest

    @property
    def mode(self) -> Mode:
        return self._manifest.mode

    @property
    def base(self) -> BaseRecord:
        return self._manifest.base

    @property
    def clip(self) -> MetricModel | None:
        """The CLIP of CLIP-I and CLIP-T, in place of the base model's own."""
        return self._manifest.clip

    @property
    def judge(self) -> MetricModel | None:
        """The second backbone for the similarity of images."""
        return self._manifest.judge

    @property
    def created(self) -> str:
        return self._manifest.created

    @property
    def base_folder(self) -> Path:
        """Where the base model is, if the store contains it."""
        return self._path / layout.BASE

    @property
    def cache_folder(self) -> Path:
        """Files in it may be deleted at any time. It need not exist."""
        return self._path / layout.CACHE

    def snapshot(self) -> Snapshot:
        """The committed state. Each version of the catalogue is read and checked once, however often this is called.

        Raises:
            StoreDamagedError, FormatTooNewError: the catalogue is damaged, or of a newer cnsctl.
        """
        return self._current()[1]

    def catalogue(self) -> Catalogue:
        """The same, as it is on disk."""
        return self._current()[0]

    def concepts(self) -> Sequence[ConceptRecord]:
        """All concepts of the snapshot, in training order."""
        return self.snapshot().concepts

    def concept(self, name: str) -> ConceptRecord:
        """One concept of the snapshot.

        Raises:
            ConceptNotFoundError: it is not in the store; the error contains the nearest names.
        """
        return self.snapshot().concept(name)

    def runs(self) -> Sequence[RunRecord]:
        """The last training runs and removals, oldest first."""
        return self.snapshot().runs

    def free(self) -> Free:
        """Neurons that no concept owns: `neurons`, and `share` of the K/V weights."""
        return free_of(self.snapshot().state, self.base.n_weights)

    def generation(self) -> int:
        """Counts the changes of what can act on a prompt: adding and removing concepts raise it, renaming does not."""
        return self.snapshot().generation

    @property
    def index(self) -> Index:
        """The ownership index: which neurons are owned, and by how many concepts."""
        from cnsctl.store.index import Index

        return Index(folder=self._path / layout.INDEX, blobs=self._path / layout.BLOBS, sizes=self.base.sizes)

    @cached_property
    def work(self) -> Work:
        """The training state of unfinished runs."""
        return Work(self._path / layout.WORK, lambda delta: any(r["delta"] == delta for r in self.concepts()))

    def blobs_problem(self) -> str | None:
        """Why all files of all concepts are missing, as if a disk were not mounted; None if they are not."""
        folder, records = self._path / layout.BLOBS, self.concepts()
        if not records or any((folder / record["delta"]).exists() for record in records):
            return None
        state = "is missing" if not folder.is_dir() else "contains no file of any concept"
        return f"the folder {folder} {state}: is its disk mounted?"

    def is_damaged(self, record: ConceptRecord) -> bool:
        """Is the file of a concept's delta missing, or of another size? Only reading it detects a changed byte."""
        try:
            return (self._path / layout.BLOBS / record["delta"]).stat().st_size != record["bytes"]
        except OSError:
            return True

    def delta(self, record: ConceptRecord) -> Delta:
        """A concept's delta, verified, and of this store's base model.

        Raises:
            StoreDamagedError: missing, damaged, or of another base model; the message names the concept.
        """
        from cnsctl.formats.delta import read

        try:
            delta = read(self.blob(record["delta"]))
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

    def refuse_older(self) -> None:
        """Check that the store has the newest format, because only that is written.

        Raises:
            FormatTooOldError: it must be migrated first.
        """
        if self._manifest.format < manifest_file.FORMAT or self.catalogue().format < catalogue.FORMAT:
            raise FormatTooOldError(f"the store has an older format: {self._path}", reason="migrate")

    @contextmanager
    def transaction(
        self, what: str, *, wait_s: float | None = None, began_s: float | None = None
    ) -> Iterator[Transaction]:
        """Change the store: at the end of the block, all its changes are saved durably, or none.

        What fails after the commit is in `warnings`, because the change is saved. A signal during the commit is handled
        after it.

        Args:
            what: what is being done, for the message of other processes: "add dog".
            wait_s: how long to wait for another writer; by default, as the store was opened.
            began_s: when the work began whose duration is noted, by `time.monotonic`; by default now.

        Raises:
            StoreLockedError: another process holds the lock for longer than that.
            FormatTooOldError: the store must be migrated first.
            DiskError: full, read-only or failing; the old or the new state is saved.
        """
        began_s = time.monotonic() if began_s is None else began_s
        with self.locked(what, wait_s=wait_s) as is_locked:
            with suppress(DiskError):  # a full disk must not keep anyone from removing concepts
                manifest_file.refresh_copy(self._path)
            now, _ = self._current(reread=True)
            self.refuse_older()
            work = self.work
            tx = Transaction(self._path, self._manifest, now, work=work, is_locked=is_locked, began_s=began_s)
            yield tx
            with defer_signals("the change is saved"):
                if tx.commit():
                    self.warnings += tx.warnings
                    if tx.purges:
                        from cnsctl.store.collect import purged

                        self.warnings += purged(self)
                    self._list_names(tx.names())

    @contextmanager
    def locked(self, what: str, *, wait_s: float | None = None) -> Iterator[Callable[[], bool]]:
        """Be the only process that changes the store. What killed commands left is removed first.

        Yields a function that returns whether that is still so.

        Raises:
            StoreLockedError: another process holds the lock for longer than `wait_s`.
            StoreNotFoundError: the store has disappeared since it was opened.
        """
        with ExitStack() as held:
            wait_s = self._wait_s if wait_s is None else wait_s
            try:
                is_locked = held.enter_context(locked(self._path / layout.LOCK, what=what, wait_s=wait_s))
            except FileNotFoundError as err:
                raise StoreNotFoundError(
                    f"store not found: {self._path}", note="it was there when the command started", reason="store-gone"
                ) from err
            for part in ("", layout.BLOBS, layout.INDEX, layout.CACHE, layout.DAMAGED):
                remove_unfinished(self._path / part)
            catalogue.settle(self._path)
            self.work.sweep()
            yield is_locked

    def set_places(
        self,
        *,
        base: BaseRecord | None = None,
        clip: MetricModel | None = None,
        judge: MetricModel | None = None,
    ) -> None:
        """Record another place of the same base model, or other metric models: all of it, or nothing.

        Args:
            base: as now, with another path, kind of place or origin.
            clip: replaces the CLIP; None keeps it.
            judge: replaces the second backbone; None keeps it.

        Raises:
            StoreLockedError: another process holds the lock.
            DiskError: full, read-only or failing; the old or the new facts are saved.
        """
        with self.locked("base") as is_locked:
            now, _ = manifest_file.load(self._path)
            self.refuse_older()
            if base is not None:
                if (base.fingerprint, base.sites) != (now.base.fingerprint, now.base.sites):
                    raise ValueError("another base model")
                now = replace(now, base=base)
            new = replace(now, clip=clip or now.clip, judge=judge or now.judge)
            with defer_signals("the change is saved"):
                self.warnings += manifest_file.save(self._path, new, before=lambda: refuse_lost(is_locked, self._path))
                self._manifest = new

    def _list_names(self, names: Sequence[str]) -> None:
        """Write the list for shell completion, which may be out of date."""
        try:
            write_atomic(self._path / layout.NAMES, "\n".join([*names, ""]).encode("ascii"))
        except CnsctlError as err:
            self.warnings.append(f"shell completion may miss it: {err.what}")

    def cached(self, key: str) -> bytes | None:
        """What was cached under a key, or None. Not verified: the reader must detect damage."""
        return Cache(self.cache_folder).get(key)

    def cache(self, key: str, data: bytes) -> None:
        """Cache data under a key; a failing disk is ignored."""
        Cache(self.cache_folder).put(key, data)

    def _current(self, *, reread: bool = False) -> tuple[Catalogue, Snapshot]:
        """The catalogue on disk. It is replaced, never written to, so another version is another file.

        `reread`: read the file even if its status is the same, because file systems may reuse inode and time.
        """
        try:
            found = (self._path / catalogue.FILE).stat()
            version: tuple[int, ...] = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:  # reading it raises the error
            version = ()
        if reread or self._read is None or self._read[0] != version:
            known = None if self._read is None else self._read[1]
            content = catalogue.load(self._path, known)
            if self._read is None or content is not known:
                self._read = (version, content, snapshot_of(content))
            else:
                self._read = (version, *self._read[1:])
        return self._read[1:]
