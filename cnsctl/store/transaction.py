"""Changes of a store that are committed together, or not at all.

Owns what adding, removing and renaming change in records and counts; must not know how locks or seals work.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from tinydb.table import Document

from cnsctl.concept import Mode
from cnsctl.data.names import check_name
from cnsctl.errors import BaseModelError, CnsctlError, DiskError, NameTakenError, NotDurableError, NotSavedError
from cnsctl.formats import canonical
from cnsctl.store import blobs
from cnsctl.store.catalogue import PREVIOUS, REPLACED, CatalogueStorage, concepts_of, over, state_of
from cnsctl.store.files import disk_problem
from cnsctl.store.layout import BLOBS, INDEX
from cnsctl.store.records import (
    ConceptRecord,
    RunRecord,
    StateRecord,
    blobs_of,
    concept_fault,
    free_of,
    frozen,
)
from cnsctl.store.snapshot import not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from cnsctl.concept import Delta
    from cnsctl.results import Free, UndoResult
    from cnsctl.store.catalogue import Catalogue
    from cnsctl.store.index import Index
    from cnsctl.store.manifest import StoreManifest
    from cnsctl.store.ownership import Bits
    from cnsctl.store.work import Work

RUNS_KEPT = 100
"""Training runs and removals that the catalogue lists; older ones are dropped."""


class Transaction:
    """Changes that wait for the end of the block.

    A call that raises has changed nothing, not even in memory: what can fail comes before the first change of a table.

    Blobs are on disk before the catalogue refers to them. If the transaction fails, they remain as unreferenced files.
    """

    def __init__(
        self,
        folder: Path,
        manifest: StoreManifest,
        catalogue: Catalogue,
        *,
        work: Work,
        is_locked: Callable[[], bool],
        began_s: float,
    ) -> None:
        """`catalogue` must be the one on disk, read under the store's lock; `is_locked`: is that lock still held?

        The noted duration begins at `began_s`, by `time.monotonic`.
        """
        self._work, self._is_locked, self._began_s = work, is_locked, began_s
        self._folder, self._blobs, self._index = folder, folder / BLOBS, folder / INDEX
        self._manifest = manifest
        self._storage = CatalogueStorage(folder, catalogue)
        self._db = over(self._storage)
        self._masks: dict[str, Bits] = {}
        """Neurons of the concepts added here, by id."""
        self._dropped: dict[str, ConceptRecord] = {}
        """Concepts removed here, by id."""
        self._changed = self._recounted = False
        self.purges = False
        """Forget the previous generation at the commit, so that nothing refers to the files of removed concepts.

        This works on a full disk, too: the ownership index, which is derived from the deltas, is deleted if need be."""
        self.warnings: list[str] = []
        """What failed after the commit."""

    def add(
        self,
        fields: Mapping[str, Any],
        delta: Delta,
        *,
        references: Sequence[bytes],
        probe: bytes,
        preview: bytes | None = None,
        replace: bool = False,
        verb: str = "add",
    ) -> ConceptRecord:
        """Save a concept, as the last one in training order.

        Args:
            fields: of its record: name, class_word, tokens, share, share_denoiser, created, captions, recipe, scores.
            delta: trained on this store's base model. In merged mode its values contain the earlier concepts, so that no
                other store can use it; the other two modes train against the base model alone.
            references: PNG copies of its images, one per caption.
            probe: the record that later proofs compare with.
            preview: PNG of images generated right after training.
            replace: replace a concept of the same name, if there is one.
            verb: what the list of runs names.

        Raises:
            InvalidNameError, NameTakenError: the name is not allowed, or taken.
            StoreLockedError: another process trains under this name.
            BaseModelError: the delta belongs to another base model or mode.
            NotSavedError: the delta could not be read again.
            DiskError: full, read-only or failing.
        """
        name = check_name(fields["name"])
        self._work.refuse_in_training(name)
        old = self._find(name)
        if old is not None and not replace:
            raise _taken(name, meanwhile=self._work.is_reserved(name))
        self._check_delta(delta)
        record = self._record_of(fields, delta, references, probe, preview)
        if old is not None:
            self._drop(old)
        self._masks[record["id"]] = self._mask(delta)
        self._db.table("concepts").insert(record)
        self._set_state(next_seq=record["seq"] + 1)
        self._note(verb, name, record["created"], "kept" if old is None else "replaced")
        return record

    def remove(self, name: str) -> ConceptRecord:
        """Remove a concept and return its record. Its blobs remain.

        Raises:
            ConceptNotFoundError: it is not in the store.
        """
        key = self._require(name)
        record = self._record(key)
        self._drop(key)
        self._note("rm", name, _now(), "removed")
        return record

    def rename(self, old: str, new: str) -> None:
        """Give a concept another name; nothing else changes.

        Raises:
            ConceptNotFoundError: the old name is not in the store.
            InvalidNameError, NameTakenError: the new name is not allowed, or taken.
            StoreLockedError: another process trains under one of the names.
        """
        key = self._require(old)
        if self._find(check_name(new)) is not None:
            raise _taken(new)
        self._work.refuse_in_training(old, interrupted=False)
        self._work.refuse_in_training(new)
        self._set(key, {"name": new})
        self._note("mv", new, _now(), f"was {old}")

    def update(
        self, name: str, *, probe: bytes | None = None, scores: Mapping[str, float | str | None] | None = None
    ) -> None:
        """Replace the record that proofs compare with, or the scores right after training.

        Raises:
            ConceptNotFoundError: it is not in the store.
        """
        key = self._require(name)
        fields: dict[str, Any] = {}
        if probe is not None:
            fields["probe"] = blobs.put(self._blobs, probe)
        if scores is not None:
            fields["scores"] = dict(scores)
        self._set(key, fields)

    def undo(self, previous: Catalogue) -> UndoResult:
        """Go back to the concepts of the previous generation. A second call goes forward again.

        Raises:
            StoreDamagedError: a file that a concept needs is gone or damaged.
            StoreLockedError, NameTakenError: a name that comes back is in training.
        """
        from cnsctl.results import UndoResult

        now = {record["id"]: record for record in concepts_of(self._storage.read())}
        then = {record["id"]: record for record in concepts_of(previous.tables)}
        back = [record for key, record in then.items() if key not in now]
        gone = [record for key, record in now.items() if key not in then]
        renamed = {
            now[key]["name"]: then[key]["name"] for key in now.keys() & then if now[key]["name"] != then[key]["name"]
        }
        for name in (*(record["name"] for record in back), *renamed.values()):
            self._work.refuse_in_training(name)
        for sha in {sha for record in back for sha in blobs_of(record)}:
            blobs.get(self._blobs, sha)
        (before,), (old,) = (t["state"].values() for t in (self._storage.read(), previous.tables))
        self._storage.write({"concepts": previous.tables["concepts"]})
        counts = {key: old[key] for key in ("free", "owners", "recent", "owned", "uncounted")}
        next_seq, generation = max(before["next_seq"], old["next_seq"]), before["generation"] + 1
        self._set_state(**counts, next_seq=next_seq, generation=generation)
        for name, outcome in (
            *((record["name"], "restored") for record in back),
            *((record["name"], "removed") for record in gone),
            *((name, f"was {present}") for present, name in renamed.items()),
        ):
            self._note("undo", name, _now(), outcome)
        self._changed = True
        return UndoResult(
            store=str(self._folder),
            restored=tuple(record["name"] for record in back),
            removed=tuple(record["name"] for record in gone),
            renamed=renamed,
        )

    def recount(self) -> None:
        """Count the ownership index again from all deltas that can be read."""
        records = concepts_of(self._storage.read())
        self._changed = self._recounted = True
        self._set_state(**self._own_index().recounted(records))

    def expect_generation(self, generation: int) -> None:
        """Refuse to commit if concepts were added or removed since `Store.generation` returned this number.

        Raises:
            NotSavedError: they were.
        """
        found = state_of(self._db)["generation"]
        if found != generation:
            raise NotSavedError(
                f"the store changed while the concept was trained: generation {generation} is now {found}",
                hint="run the same command again to train on the present concepts",
            )

    def commit(self) -> bool:
        """Update the ownership index and write all changes to disk; called once, at the end of the block.

        Returns:
            Whether there were changes.

        Raises:
            DiskError: full, read-only or failing; nothing is committed.
        """
        if not self._changed:
            return False
        gone = [record for key, record in self._dropped.items() if key not in self._masks]
        new = [mask for key, mask in self._masks.items() if key not in self._dropped]
        before = state_of(self._db)
        if self.purges:
            self._unlink_previous()
        try:
            if gone or new:
                self._count(before, gone, new)
            self._put()
        except DiskError:
            if not self.purges:
                raise
            fields = self._own_index().dropped(concepts_of(self._storage.read()))
            self._set_state(generation=before["generation"] + 1, **fields)
            self._put()
        if gone or new or self._recounted:
            try:  # the previous generation refers to the files of `before`
                kept = () if self.purges or self._recounted else (before,)
                self._own_index().sweep(*kept, state_of(self._db))
            except (CnsctlError, OSError) as err:
                self.warnings.append(f"old files of the ownership index remain: {err}")
        return True

    def _own_index(self) -> Index:
        from cnsctl.store.index import Index

        return Index(folder=self._index, blobs=self._blobs, sizes=self._manifest.base.sizes)

    def _unlink_previous(self) -> None:
        for path in (self._folder / REPLACED, self._folder / PREVIOUS):
            try:
                path.unlink(missing_ok=True)
            except OSError as err:
                raise disk_problem(err, "delete", path) from err

    def _put(self) -> None:
        try:
            self._storage.commit(self._is_locked, keep_previous=not self.purges)
        except NotDurableError as err:
            self.warnings.append(f"a power cut may undo it: {err.what}")

    def names(self) -> list[str]:
        """The names of all concepts in training order, with the changes of this block."""
        return [record["name"] for record in concepts_of(self._storage.read())]

    def free(self) -> Free:
        """As `Store.free`, right after the commit, from memory."""
        return free_of(state_of(self._db), self._manifest.base.n_weights)

    def _find(self, name: str) -> int | None:
        """Key of a concept's document. TinyDB's own search takes a hundred times as long."""
        table = self._storage.read()["concepts"]
        return next((int(key) for key, record in table.items() if record["name"] == name), None)

    def _require(self, name: str) -> int:
        key = self._find(name)
        if key is None:
            raise not_found(name, {known["name"]: None for known in concepts_of(self._storage.read())}.keys())
        return key

    def _record(self, key: int) -> ConceptRecord:
        return cast("ConceptRecord", self._storage.read()["concepts"][str(key)])

    def _check_delta(self, delta: Delta) -> None:
        base, mode = self._manifest.base, self._manifest.mode
        if delta.fingerprint != base.fingerprint or dict(delta.shapes) != dict(base.sites):
            raise BaseModelError(
                f"the delta was trained on another base model: {delta.fingerprint[:12]}",
                note=f"the base model of the store: {base.fingerprint[:12]}",
                hint="train the concept on the store's base model",
            )
        if Mode.MERGED in (delta.mode, mode) and delta.mode != mode:
            raise BaseModelError(
                f"the delta was trained in {delta.mode} mode, and the store is in {mode} mode",
                hint="train the concept in this store",
            )

    def _record_of(
        self,
        fields: Mapping[str, Any],
        delta: Delta,
        references: Sequence[bytes],
        probe: bytes,
        preview: bytes | None,
    ) -> ConceptRecord:
        """Write the blobs and make the record."""
        from cnsctl.formats.delta import write

        content = write(delta)
        seq = state_of(self._db)["next_seq"]
        computed = {
            "id": canonical.sha256(f"{canonical.sha256(content)}:{seq}".encode())[:16],
            "seq": seq,
            "neurons": delta.n_neurons,
            "bytes": len(content),
            "delta": blobs.put(self._blobs, content),
            "references": [blobs.put(self._blobs, image) for image in references],
            "probe": blobs.put(self._blobs, probe),
            "preview": None if preview is None else blobs.put(self._blobs, preview),
        }
        record = {**fields, **computed}
        if (fault := concept_fault(record)) is not None:
            raise ValueError(f"the record of {record['name']!r} is invalid: {fault}")
        return cast("ConceptRecord", frozen(record))

    def _drop(self, key: int) -> None:
        record = self._record(key)
        self._dropped[record["id"]] = record
        self._db.table("concepts").remove(doc_ids=[key])

    def _set(self, key: int, fields: Mapping[str, Any]) -> None:
        changed = {**self._record(key), **fields}
        if (fault := concept_fault(changed)) is not None:
            raise ValueError(f"the record of {changed['name']!r} would be invalid: {fault}")
        self._changed = True
        self._replace("concepts", key, changed)

    def _set_state(self, **fields: object) -> None:
        self._replace("state", 1, {**state_of(self._db), **fields})

    def _replace(self, table: str, doc_id: int, document: Mapping[str, Any]) -> None:
        """Documents cannot be changed in place: see `CatalogueStorage`."""
        self._db.table(table).remove(doc_ids=[doc_id])
        self._db.table(table).insert(Document(document, doc_id))

    def _note(self, verb: str, name: str, when: str, outcome: str) -> None:
        self._changed = True
        runs = self._db.table("runs")
        runs.insert(RunRecord(verb=verb, name=name, when=when, outcome=outcome, seconds=seconds_since(self._began_s)))
        if len(runs) > RUNS_KEPT:
            runs.remove(doc_ids=sorted(run.doc_id for run in runs.all())[:-RUNS_KEPT])

    def _count(self, before: StateRecord, gone: Sequence[ConceptRecord], new: Sequence[Bits]) -> None:
        """Update the index and the count of free neurons; the deltas of other concepts are not read."""
        left = (record for record in concepts_of(self._storage.read()) if record["id"] not in self._masks)
        fields = self._own_index().update(before, gone=gone, left=left, new=new)
        self._set_state(generation=before["generation"] + 1, **fields)

    def _mask(self, delta: Delta) -> Bits:
        from cnsctl.store import ownership

        return ownership.pack(delta.indices, self._manifest.base.sizes)


def seconds_since(began_s: float) -> float:
    """Of a change that is noted, to a tenth."""
    return round(max(0.0, time.monotonic() - began_s), 1)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _taken(name: str, *, meanwhile: bool = False) -> NameTakenError:
    reason = "name-taken-meanwhile" if meanwhile else "name-taken"  # while a concept was trained under this name
    return NameTakenError(f"concept already exists: {name!r}", reason=reason, name=name)
