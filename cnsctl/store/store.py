"""A store on disk: opened for reading, changed by transactions.

Owns how a store is created, opened, read and changed; must not know models, terminals or how files are written.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.errors import CnsctlError, StoreDamagedError, StoreNotFoundError, UsageError
from cnsctl.home_folder import from_home
from cnsctl.store import blobs, catalogue, layout
from cnsctl.store import manifest as manifest_file
from cnsctl.store.files import make_folder, read_bounded, remove_unfinished, write_atomic
from cnsctl.store.lock import locked
from cnsctl.store.manifest import BaseRecord, MetricModel, StoreManifest
from cnsctl.store.records import free_of
from cnsctl.store.signals import defer_signals
from cnsctl.store.snapshot import Snapshot, snapshot_of
from cnsctl.store.transaction import Transaction
from cnsctl.store.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnsctl.concept import Delta, Mode
    from cnsctl.results import Free
    from cnsctl.store.catalogue import Catalogue
    from cnsctl.store.index import Index
    from cnsctl.store.records import ConceptRecord, RunRecord

COMMIT_WAIT_S = 60.0
"""How long a transaction waits for another one: a commit takes seconds, and the waiting concept took minutes to train."""

_CACHE_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,120}")
_MAX_CACHED = 2 << 30


class Store:
    """A folder of concepts. Reading takes no lock and writes nothing; each call returns one committed state."""

    def __init__(self, path: Path, manifest: StoreManifest) -> None:
        self._path = path
        self._manifest = manifest
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
        _refuse_windows()
        new = StoreManifest(base=base, mode=mode, created=created, clip=clip, judge=judge)
        warnings = layout.build(path, new, base_files)
        store = cls(path, new)
        store.warnings += warnings
        return store

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open a store for reading.

        Raises:
            StoreNotFoundError: the path contains no store.
            StoreDamagedError, FormatTooNewError: `store.json` is damaged, or of a newer cnsctl.
        """
        _refuse_windows()
        try:
            content = read_bounded(path / manifest_file.FILE, manifest_file.MAX_BYTES)
        except FileNotFoundError as err:
            if (path / catalogue.FILE).exists() and not layout.is_unfinished(path):
                raise StoreDamagedError(
                    f"{path / manifest_file.FILE} is missing", hint="restore it from a backup"
                ) from err
            raise StoreNotFoundError(f"store not found: {path}", reason="store-missing") from err
        return cls(path, manifest_file.from_bytes(content, str(path / manifest_file.FILE)))

    @staticmethod
    def refuse_taken(path: Path) -> None:
        """Check that a store can be created at a path.

        Raises:
            UsageError: something is at the path already.
        """
        layout.refuse_taken(path.resolve())

    @property
    def path(self) -> Path:
        return self._path

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

    @contextmanager
    def transaction(self, what: str, *, wait_s: float = COMMIT_WAIT_S) -> Iterator[Transaction]:
        """Change the store: at the end of the block, all its changes are saved durably, or none.

        What fails after the commit is in `warnings`, because the change is saved. A signal during the commit is handled
        after it.

        Args:
            what: what is being done, for the message of other processes: "add dog".
            wait_s: how long to wait for another writer.

        Raises:
            StoreLockedError: another process holds the lock for longer than that.
            DiskError: full, read-only or failing; the old or the new state is saved.
        """
        with ExitStack() as held:
            try:
                held.enter_context(locked(self._path / layout.LOCK, what=what, wait_s=wait_s))
            except FileNotFoundError as err:
                raise StoreNotFoundError(
                    f"store not found: {self._path}", note="it was there when the command started", reason="store-gone"
                ) from err
            for folder in (self._path, self._path / layout.BLOBS, self._path / layout.INDEX, self.cache_folder):
                remove_unfinished(folder)
            self.work.sweep()
            tx = Transaction(self._path, self._manifest, self._current(reread=True)[0])
            yield tx
            with defer_signals("the change is saved"):
                if tx.commit():
                    self.warnings += tx.warnings
                    self._list_names(tx.names())

    def set_places(
        self,
        *,
        base: BaseRecord | None = None,
        clip: MetricModel | None = None,
        judge: MetricModel | None = None,
        wait_s: float = COMMIT_WAIT_S,
    ) -> None:
        """Record another place of the same base model, or other metric models: all of it, or nothing.

        Args:
            base: as now, with another path, kind of place or origin.
            clip: replaces the CLIP; None keeps it.
            judge: replaces the second backbone; None keeps it.
            wait_s: how long to wait for another writer.

        Raises:
            StoreLockedError: another process holds the lock for longer than that.
            DiskError: full, read-only or failing; the old or the new facts are saved.
        """
        file = self._path / manifest_file.FILE
        with locked(self._path / layout.LOCK, what="base", wait_s=wait_s):
            now = manifest_file.from_bytes(read_bounded(file, manifest_file.MAX_BYTES), str(file))
            if base is not None:
                if (base.fingerprint, base.sites) != (now.base.fingerprint, now.base.sites):
                    raise ValueError("another base model")
                now = replace(now, base=base)
            new = replace(now, clip=clip or now.clip, judge=judge or now.judge)
            write_atomic(file, manifest_file.to_bytes(new))
            self._manifest = new

    def _list_names(self, names: Sequence[str]) -> None:
        """Write the list for shell completion, which may be out of date."""
        try:
            write_atomic(self._path / layout.NAMES, "\n".join([*names, ""]).encode("ascii"))
        except CnsctlError as err:
            self.warnings.append(f"shell completion may miss it: {err.what}")

    def cached(self, key: str) -> bytes | None:
        """What was cached under a key, or None. Not verified: the reader must detect damage."""
        try:
            return read_bounded(self._cache_file(key), _MAX_CACHED)
        except (FileNotFoundError, CnsctlError):
            return None

    def cache(self, key: str, data: bytes) -> None:
        """Cache data under a key; a failing disk is ignored."""
        with suppress(CnsctlError):
            make_folder(self.cache_folder)
            write_atomic(self._cache_file(key), data)

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

    def _cache_file(self, key: str) -> Path:
        if not _CACHE_KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a key of the cache")
        return self.cache_folder / key


def default_path() -> Path:
    """Where the store is by default: `CNSCTL_STORE`, else the platform's folder of user data.

    Raises:
        UsageError: the user has no home folder.
    """
    if named := os.environ.get("CNSCTL_STORE"):
        return from_home(named)
    import platformdirs

    try:
        found = Path(platformdirs.user_data_dir("cnsctl"))
    except RuntimeError:
        found = Path("~")
    if not found.is_absolute():  # without a home folder, older versions leave the `~`
        raise UsageError("no place for the store: this user has no home folder", reason="no-home")
    return found


def _refuse_windows() -> None:
    if sys.platform == "win32":
        raise UsageError("Windows is not supported", hint="install and run it inside WSL")
