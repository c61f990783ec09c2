"""Changes of a store that become true together, or not at all.

Owns what adding, removing and renaming mean for records and counts; must not know how locks or seals work.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from tinydb import where

from cnsctl.data.names import check_name
from cnsctl.errors import BaseProblem, ConceptNotFound, LearnedNotKept, NameTaken, NotDurable, StoreDamaged
from cnsctl.store import blobs, canonical
from cnsctl.store.catalogue import CatalogueStorage, concepts_of, over, state_of
from cnsctl.store.layout import BLOBS
from cnsctl.store.records import ConceptRecord, RunRecord, concept_fault, free_of, pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.specs import Delta
    from cnsctl.store.reference import Birth


class Transaction:
    """Changes waiting for the end of the block.

    A call that raises has changed nothing, not even here: what can fail comes before the first change of a table.

    Blobs are on disk before the catalogue names them; those of a block that fails stay, named by nobody.
    """

    def __init__(self, folder: Path, birth: Birth) -> None:
        self._blobs = folder / BLOBS
        self._birth = birth
        self._storage = CatalogueStorage(folder)
        self._db = over(self._storage)
        self._before = {record["id"] for record in concepts_of(self._db)}
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
            NameNotAllowed, NameTaken: by the name.
            BaseProblem: the delta belongs to another base or mode.
            LearnedNotKept: the delta is not one that could be read again.
            DiskProblem: full, read-only or failing.
        """
        name = check_name(fields["name"])
        old = self._find(name)
        if old is not None and not replace:
            raise _taken(name)
        self._check_delta(delta)
        record = self._kept(fields, delta, references, probe, preview)
        if old is not None:
            self._drop(old)
        self._db.table("concepts").insert(record)
        self._set_state(next_seq=record["seq"] + 1)
        self._note("add", name, record["created"], "kept" if old is None else "replaced")
        return record

    def remove(self, name: str) -> ConceptRecord:
        """Take a concept out and return what its record was. Its blobs stay.

        Raises:
            ConceptNotFound: there is none.
        """
        record = self._require(name)
        self._drop(record)
        self._note("rm", name, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "removed")
        return record

    def rename(self, old: str, new: str) -> None:
        """Give a concept another name; nothing else changes.

        Raises:
            ConceptNotFound, NameNotAllowed, NameTaken: by the names.
        """
        record = self._require(old)
        if self._find(check_name(new)) is not None:
            raise _taken(new)
        self._set(record, {"name": new})

    def update(
        self, name: str, *, probe: bytes | None = None, learned: Mapping[str, float | str | None] | None = None
    ) -> None:
        """Replace what proofs compare with, or the scores right after learning.

        Raises:
            ConceptNotFound: there is none.
        """
        record = self._require(name)
        fields: dict[str, Any] = {}
        if probe is not None:
            fields["probe"] = blobs.put(self._blobs, probe)
        if learned is not None:
            fields["learned"] = dict(learned)
        self._set(record, fields)

    def expect_generation(self, generation: int) -> None:
        """Refuse to go on when concepts came or went since `Store.generation` answered this.

        Raises:
            LearnedNotKept: they did.
        """
        found = state_of(self._db)["generation"]
        if found != generation:
            raise LearnedNotKept(
                f"the store changed while the concept was learned: generation {generation} is now {found}",
                hint="run the same command again: it learns on the concepts that are there now",
            )

    def commit(self) -> bool:
        """Count who owns what now and put all changes on disk; called once, at the end of the block.

        Returns:
            Whether there was anything to put.

        Raises:
            StoreDamaged: a concept's delta cannot be read, so nothing can be counted.
            DiskProblem: full, read-only or failing; nothing is committed.
        """
        if not self._changed:
            return False
        concepts = concepts_of(self._db)
        if {record["id"] for record in concepts} != self._before:
            self._count(concepts)
        try:
            self._storage.commit()
        except NotDurable as err:
            self.warnings.append(f"a power cut may undo it: {err.what}")
        return True

    def names(self) -> list[str]:
        """The names of all concepts, with the changes of this block."""
        return [record["name"] for record in concepts_of(self._db)]

    def free(self) -> dict[str, float]:
        """As `Store.free`; right after the commit, and read from memory."""
        return free_of(state_of(self._db), self._birth.base.n_weights)

    def _find(self, name: str) -> ConceptRecord | None:
        return next((record for record in concepts_of(self._db) if record["name"] == name), None)

    def _require(self, name: str) -> ConceptRecord:
        record = self._find(name)
        if record is None:
            raise not_found(name, [known["name"] for known in concepts_of(self._db)])
        return record

    def _check_delta(self, delta: Delta) -> None:
        base, mode = self._birth.base, self._birth.mode
        if delta.fingerprint != base.fingerprint or dict(delta.shapes) != dict(base.sites):
            raise BaseProblem(
                f"the delta was learned on base {delta.fingerprint[:12]}, the store's is {base.fingerprint[:12]}",
                hint="learn it on this store's base",
            )
        if delta.mode != mode:
            raise BaseProblem(
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
        from cnsctl.store.codec import encode_delta

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
        return cast("ConceptRecord", record)

    def _drop(self, record: ConceptRecord) -> None:
        self._db.table("concepts").remove(where("id") == record["id"])

    def _set(self, record: ConceptRecord, fields: Mapping[str, Any]) -> None:
        if (fault := concept_fault({**record, **fields})) is not None:
            raise ValueError(f"the record of {record['name']!r} would be no concept's: {fault}")
        self._changed = True
        self._db.table("concepts").update(fields, where("id") == record["id"])

    def _set_state(self, **fields: object) -> None:
        self._db.table("state").update(fields)

    def _note(self, verb: str, name: str, when: str, outcome: str) -> None:
        self._changed = True
        self._db.table("runs").insert(RunRecord(verb=verb, name=name, when=when, outcome=outcome))

    def _count(self, concepts: Sequence[ConceptRecord]) -> None:
        """Bring free and overlap counts up to date: pairs without a new concept keep theirs.

        All deltas' indices are read once, since the free ones are what no delta holds; none is written.
        """
        from cnsctl.store.ownership import take_census

        state, ids = state_of(self._db), {record["id"] for record in concepts}
        new = {record["id"]: self._indices(record) for record in concepts if record["id"] not in self._before}
        sizes = {site: rows * columns for site, (rows, columns) in self._birth.base.sites.items()}
        faults: dict[str, str] = {}
        census = take_census(self._readable(concepts, faults), new, sizes)
        if faults:  # all of them at once: they must go together
            raise StoreDamaged(
                "; ".join(f"the concept {name!r} cannot be read: {what}" for name, what in faults.items()),
                hint=f"restore the store from a backup, or take out what is damaged: cnsctl rm {' '.join(faults)}",
            )
        kept = {key: n for key, n in state["overlaps"].items() if set(key.split("|")) <= ids}
        found = {pair(*both): n for both, n in census.overlaps.items() if n > 0}
        self._set_state(
            generation=state["generation"] + 1,
            free=self._birth.base.n_weights - census.owned,
            overlaps=kept | found,
        )

    def _indices(self, record: ConceptRecord) -> dict[str, NDArray[np.int64]]:
        from cnsctl.store.codec import read_indices

        return read_indices(blobs.get(self._blobs, record["delta"]))

    def _readable(
        self, concepts: Sequence[ConceptRecord], faults: dict[str, str]
    ) -> Iterator[tuple[str, dict[str, NDArray[np.int64]]]]:
        """Neurons by id; of concepts that cannot be read, the reason by name."""
        for record in concepts:
            try:
                yield record["id"], self._indices(record)
            except StoreDamaged as err:
                faults[record["name"]] = err.what


def not_found(name: str, known: Sequence[str]) -> ConceptNotFound:
    """Say that there is no such concept, and what is near."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3)
    if near:
        hint = f"did you mean {', '.join(near)}?"
    else:
        hint = "cnsctl ls lists them" if known else "there is none yet: cnsctl add NAME PICTURES"
    return ConceptNotFound(f"there is no concept called {name[:80]!r}", hint=hint)


def _taken(name: str) -> NameTaken:
    return NameTaken(
        f"there is a concept called {name!r} already",
        hint=f"use another name, or take it out first: cnsctl rm {name}",
    )
