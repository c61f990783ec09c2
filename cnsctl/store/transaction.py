"""Changes of a store that become true together, or not at all.

Owns what adding, removing and renaming mean for records and counts; must not know how locks or seals work.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from tinydb.table import Document

from cnsctl.data.names import check_name
from cnsctl.errors import BaseModelError, CnsctlError, NameTakenError, NotDurableError, NotSavedError
from cnsctl.formats import canonical
from cnsctl.store import blobs
from cnsctl.store.catalogue import CatalogueStorage, concepts_of, over, state_of
from cnsctl.store.layout import BLOBS, INDEX
from cnsctl.store.records import ConceptRecord, RunRecord, StateRecord, concept_fault, free_of, frozen
from cnsctl.store.snapshot import not_found

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cnsctl.concept import Delta
    from cnsctl.results import Free
    from cnsctl.store.catalogue import Catalogue
    from cnsctl.store.index import Index
    from cnsctl.store.manifest import StoreManifest
    from cnsctl.store.ownership import Bits

RUNS_KEPT = 100
"""Training runs and removals that the catalogue remembers; older ones are dropped."""


class Transaction:
    """Changes waiting for the end of the block.

    A call that raises has changed nothing, not even here: what can fail comes before the first change of a table.

    Blobs are on disk before the catalogue names them; those of a block that fails stay, named by nobody.
    """

    def __init__(self, folder: Path, birth: StoreManifest, catalogue: Catalogue) -> None:
        """`catalogue` must be the one on disk, read under the store's lock."""
        self._blobs, self._index = folder / BLOBS, folder / INDEX
        self._birth = birth
        self._storage = CatalogueStorage(folder, catalogue)
        self._db = over(self._storage)
        self._before = {record["id"]: record for record in catalogue.tables["concepts"].values()}
        self._masks: dict[str, Bits] = {}
        """Of the concepts added here, by id."""
        self._changed = False
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
    ) -> ConceptRecord:
        """Keep a concept, as the last one in learning order.

        Args:
            fields: of its record: name, class_word, tokens, share, share_denoiser, created, captions, recipe, learned.
            delta: learned on this store's base, in its mode.
            references: PNG copies of its pictures, one per caption.
            probe: what later proofs compare with.
            preview: a picture of it, PNG.
            replace: take the place of a concept of the same name, if there is one.

        Raises:
            InvalidNameError, NameTakenError: by the name.
            BaseModelError: the delta belongs to another base or mode.
            NotSavedError: the delta is not one that could be read again.
            DiskError: full, read-only or failing.
        """
        name = check_name(fields["name"])
        old = self._find(name)
        if old is not None and not replace:
            raise _taken(name)
        self._check_delta(delta)
        record = self._kept(fields, delta, references, probe, preview)
        if old is not None:
            self._drop(old)
        self._masks[record["id"]] = self._mask(delta)
        self._db.table("concepts").insert(record)
        self._set_state(next_seq=record["seq"] + 1)
        self._note("add", name, record["created"], "kept" if old is None else "replaced")
        return record

    def remove(self, name: str) -> ConceptRecord:
        """Take a concept out and return what its record was. Its blobs stay.

        Raises:
            ConceptNotFoundError: there is none.
        """
        key = self._require(name)
        record = self._record(key)
        self._drop(key)
        self._note("rm", name, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "removed")
        return record

    def rename(self, old: str, new: str) -> None:
        """Give a concept another name; nothing else changes.

        Raises:
            ConceptNotFoundError, InvalidNameError, NameTakenError: by the names.
        """
        key = self._require(old)
        if self._find(check_name(new)) is not None:
            raise _taken(new)
        self._set(key, {"name": new})

    def update(
        self, name: str, *, probe: bytes | None = None, scores: Mapping[str, float | str | None] | None = None
    ) -> None:
        """Replace what proofs compare with, or the scores right after learning.

        Raises:
            ConceptNotFoundError: there is none.
        """
        key = self._require(name)
        fields: dict[str, Any] = {}
        if probe is not None:
            fields["probe"] = blobs.put(self._blobs, probe)
        if scores is not None:
            fields["scores"] = dict(scores)
        self._set(key, fields)

    def expect_generation(self, generation: int) -> None:
        """Refuse to go on when concepts came or went since `Store.generation` answered this.

        Raises:
            NotSavedError: they did.
        """
        found = state_of(self._db)["generation"]
        if found != generation:
            raise NotSavedError(
                f"the store changed while the concept was scores: generation {generation} is now {found}",
                hint="run the same command again: it learns on the concepts that are there now",
            )

    def commit(self) -> bool:
        """Count who owns what now and put all changes on disk; called once, at the end of the block.

        Returns:
            Whether there was anything to put.

        Raises:
            DiskError: full, read-only or failing; nothing is committed.
        """
        if not self._changed:
            return False
        concepts = concepts_of(self._storage.read())
        if {record["id"] for record in concepts} == self._before.keys():
            self._put()
        else:
            from cnsctl.store.index import Index

            index = Index(folder=self._index, blobs=self._blobs, sizes=self._birth.base.sizes)
            before = state_of(self._db)
            self._count(index, before, concepts)
            self._put()
            try:
                index.sweep(before, state_of(self._db))  # the previous generation needs the first
            except (CnsctlError, OSError) as err:
                self.warnings.append(f"old files of the ownership index remain: {err}")
        return True

    def _put(self) -> None:
        try:
            self._storage.commit()
        except NotDurableError as err:
            self.warnings.append(f"a power cut may undo it: {err.what}")

    def names(self) -> list[str]:
        """The names of all concepts, with the changes of this block."""
        return [record["name"] for record in concepts_of(self._storage.read())]

    def free(self) -> Free:
        """As `Store.free`; right after the commit, and read from memory."""
        return free_of(state_of(self._db), self._birth.base.n_weights)

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
        base, mode = self._birth.base, self._birth.mode
        if delta.fingerprint != base.fingerprint or dict(delta.shapes) != dict(base.sites):
            raise BaseModelError(
                f"the delta was learned on base {delta.fingerprint[:12]}, the store's is {base.fingerprint[:12]}",
                hint="learn it on this store's base",
            )
        if delta.mode != mode:
            raise BaseModelError(
                f"the delta was learned in mode {delta.mode}, the store's is {mode}", hint="learn it again"
            )

    def _kept(
        self,
        fields: Mapping[str, Any],
        delta: Delta,
        references: Sequence[bytes],
        probe: bytes,
        preview: bytes | None,
    ) -> ConceptRecord:
        """Put the blobs and make the record."""
        from cnsctl.formats.delta import encode_delta

        content = encode_delta(delta)
        seq = state_of(self._db)["next_seq"]
        computed = {
            "id": canonical.sha256(f"{canonical.sha256(content)}:{seq}".encode())[:16],
            "seq": seq,
            "neurons": delta.n_neurons,
            "bytes": len(content),
            "delta": blobs.put(self._blobs, content),
            "references": [blobs.put(self._blobs, picture) for picture in references],
            "probe": blobs.put(self._blobs, probe),
            "preview": None if preview is None else blobs.put(self._blobs, preview),
        }
        record = {**fields, **computed}
        if (fault := concept_fault(record)) is not None:
            raise ValueError(f"the record of {record['name']!r} is no concept's: {fault}")
        return cast("ConceptRecord", frozen(record))

    def _drop(self, key: int) -> None:
        self._db.table("concepts").remove(doc_ids=[key])

    def _set(self, key: int, fields: Mapping[str, Any]) -> None:
        changed = {**self._record(key), **fields}
        if (fault := concept_fault(changed)) is not None:
            raise ValueError(f"the record of {changed['name']!r} would be no concept's: {fault}")
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
        runs.insert(RunRecord(verb=verb, name=name, when=when, outcome=outcome))
        if len(runs) > RUNS_KEPT:
            runs.remove(doc_ids=sorted(run.doc_id for run in runs.all())[:-RUNS_KEPT])

    def _count(self, index: Index, before: StateRecord, concepts: Sequence[ConceptRecord]) -> None:
        """Bring the index and the count of free neurons up to date; other concepts' deltas are not read."""
        ids = {record["id"] for record in concepts}
        fields = index.update(
            before,
            gone=[record for key, record in self._before.items() if key not in ids],
            left=[record for record in concepts if record["id"] in self._before],
            new=[self._masks[record["id"]] for record in concepts if record["id"] not in self._before],
        )
        self._set_state(generation=before["generation"] + 1, **fields)

    def _mask(self, delta: Delta) -> Bits:
        from cnsctl.store import ownership

        return ownership.pack(delta.indices, self._birth.base.sizes)


def _taken(name: str) -> NameTakenError:
    return NameTakenError(f"concept already exists: {name!r}", reason="name-taken", name=name)
