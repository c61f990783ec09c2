"""One committed state of a store's concepts, which never changes.

Owns look-up by name and training order; must not know files.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from cnsctl.errors import ConceptNotFoundError
from cnsctl.store.catalogue import concepts_of

if TYPE_CHECKING:
    from collections.abc import KeysView, Mapping, Sequence

    from cnsctl.store.catalogue import Catalogue
    from cnsctl.store.records import ConceptRecord, RunRecord, StateRecord


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """The content of a catalogue when it was read. A command takes one snapshot and uses it throughout."""

    concepts: Sequence[ConceptRecord]
    """All concepts, in training order."""
    by_name: Mapping[str, ConceptRecord]
    """The same, in the same order."""
    runs: Sequence[RunRecord]
    """The last training runs and removals, oldest first."""
    generation: int
    """Counts the changes of what can act on a prompt: concepts added and removed, not renamed."""
    free: int
    """Neurons that no concept owns."""
    state: StateRecord
    """Contains the names of the ownership index's files."""

    @property
    def names(self) -> KeysView[str]:
        """In training order."""
        return self.by_name.keys()

    def concept(self, name: str) -> ConceptRecord:
        """One concept.

        Raises:
            ConceptNotFoundError: it is not in the store; the error contains the nearest names.
        """
        try:
            return self.by_name[name]
        except KeyError:
            raise not_found(name, self.names) from None


def snapshot_of(catalogue: Catalogue) -> Snapshot:
    """Make the snapshot of a catalogue."""
    tables = catalogue.tables
    concepts = tuple(concepts_of(tables))
    (state,) = tables["state"].values()
    return Snapshot(
        concepts=concepts,
        by_name=MappingProxyType({record["name"]: record for record in concepts}),
        runs=tuple(tables["runs"].values()),
        generation=state["generation"],
        free=state["free"],
        state=state,
    )


def not_found(name: str, known: KeysView[str]) -> ConceptNotFoundError:
    """The error for a missing concept, with the nearest names."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3)
    return ConceptNotFoundError(
        f"concept not found: {name[:80]!r}", reason="concept-missing" if known else "empty-store", near=near
    )
