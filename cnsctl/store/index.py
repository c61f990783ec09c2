"""The ownership index on disk: which neurons concepts own, and how many own each.

The state of the catalogue refers to three kinds of files, each named by the SHA-256 of its content:

- `owned`: one bit per weight.
- `owners`: the numbers of owners, as bit planes.
- `recent`: the masks of the concepts added since, so that only every ninth addition writes all planes.

The index contains nothing that the deltas do not. If it is missing or damaged, it is counted again from the readable
deltas.

Owns format, reading and update; must not know transactions.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cnsctl.errors import DiskError, FormatTooNewError, StoreDamagedError
from cnsctl.formats import own_file
from cnsctl.formats.delta import read_indices
from cnsctl.store import blobs
from cnsctl.store.files import make_folder
from cnsctl.store.ownership import Bits, Planes, added, by_site, count, n_bytes, pack, removed, spare_bits, union

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cnsctl.store.records import ConceptRecord, StateRecord
    from cnsctl.store.snapshot import Snapshot

FORMAT = 1
"""Version of the files of the index."""

KIND = "owners"
MAX_PLANES = 32

RECENT_KEPT = 8
"""Masks beside the planes. Each is as large as a plane."""

_UNREADABLE = (StoreDamagedError, DiskError, FormatTooNewError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Count:
    """How many concepts own each neuron."""

    planes: Planes
    uncounted: tuple[str, ...]
    """Ids of concepts whose delta could not be read; they are counted when it can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The ownership index of one store. The state of a catalogue refers to its files."""

    folder: Path
    blobs: Path
    """Folder of the deltas."""
    sizes: Mapping[str, int]
    """Weights per site."""

    def owned(self, found: Snapshot, *, besides: str | None = None) -> dict[str, Bits]:
        """Which neurons concepts own: read from one file, or counted if that is damaged.

        Args:
            found: of the store.
            besides: a concept to leave out, if there is one of this name; its delta is read.

        Returns:
            Per site: one bit per weight, flat row-major, in the order of `numpy.packbits`.
        """
        gone = [record for record in found.concepts if record["name"] == besides]
        left = [record for record in found.concepts if record["name"] != besides]
        is_dropped = found.state["owned"] is None and bool(found.state["uncounted"])
        if not gone and not is_dropped:
            with suppress(*_UNREADABLE):
                return by_site(union(self.read(found.state["owned"]), self.sizes), self.sizes)
        return by_site(union(self._without(found.state, gone, left).planes, self.sizes), self.sizes)

    def overlaps(self, record: ConceptRecord, others: Iterable[ConceptRecord]) -> dict[str, int | None]:
        """Neurons that a concept shares with each of some others, by name; None if a delta cannot be read.

        Reads all these deltas.
        """
        own = self._readable_mask(record)
        found: dict[str, int | None] = {}
        for other in others:
            theirs = None if own is None else self._readable_mask(other)
            found[other["name"]] = None if own is None or theirs is None else count(own & theirs)
        return found

    def kept(self, state: StateRecord) -> Planes:
        """The numbers of owners, from all files of the index.

        Raises:
            StoreDamagedError: one is missing or damaged, or they are inconsistent.
        """
        planes = self.read(state["owners"])
        for sha in state["recent"]:
            (mask,) = self.read(sha)
            planes = added(planes, mask)
        if not np.array_equal(union(planes, self.sizes), union(self.read(state["owned"]), self.sizes)):
            raise StoreDamagedError("the ownership index is inconsistent", hint="it is counted again")
        return planes

    def rebuild(self, records: Iterable[ConceptRecord]) -> Count:
        """Count the owners from all readable deltas. Nothing else reads all deltas."""
        return self._with((), records)

    def update(
        self,
        state: StateRecord,
        *,
        gone: Sequence[ConceptRecord],
        left: Iterable[ConceptRecord],
        new: Sequence[Bits],
    ) -> dict[str, Any]:
        """Remove concepts from the index, add others, and write it.

        Args:
            state: the present one; its files remain.
            gone: concepts to remove; their deltas are read.
            left: concepts that remain, iterated once at most; their deltas are read only if the index, or a delta of `gone`, cannot be.
            new: masks of the concepts to add.

        Returns:
            The fields of the new state that concern the index.

        Raises:
            DiskError: full, read-only or failing.
        """
        new = [mask for mask in new if mask.any()]
        owned = None
        if not gone and not state["uncounted"] and len(state["recent"]) + len(new) <= RECENT_KEPT:
            with suppress(*_UNREADABLE):
                owned = self.read(state["owned"])
        if owned is not None:
            recent = [*state["recent"], *(self.write((mask,)) for mask in new)]
            return self._fields(union((*owned, *new), self.sizes), owners=state["owners"], recent=recent)
        counted = self._without(state, gone, left)
        planes = counted.planes
        for mask in new:
            planes = added(planes, mask)
        owners = self.write(planes)
        return self._fields(union(planes, self.sizes), owners=owners, uncounted=counted.uncounted)

    def recounted(self, records: Iterable[ConceptRecord]) -> dict[str, Any]:
        """Count from all deltas that can be read, and write the index; the fields of the new state that concern it.

        Raises:
            DiskError: full, read-only or failing.
        """
        counted = self.rebuild(records)
        owned = union(counted.planes, self.sizes)
        return self._fields(owned, owners=self.write(counted.planes), uncounted=counted.uncounted)

    def dropped(self, records: Sequence[ConceptRecord]) -> dict[str, Any]:
        """Delete the index, which frees space; the next commit counts it again. The fields of the state without it."""
        owned = union(self.rebuild(records).planes, self.sizes)
        self.sweep()
        free = sum(self.sizes.values()) - count(owned)
        ids = sorted(record["id"] for record in records)
        return {"owners": None, "recent": [], "owned": None, "uncounted": ids, "free": free}

    def write(self, planes: Planes) -> str | None:
        """Write a file of planes durably and return its name; None without planes.

        Raises:
            DiskError: it cannot be written.
        """
        if not planes:
            return None
        make_folder(self.folder)
        tensors = {f"plane.{k}": plane for k, plane in enumerate(planes)}
        return blobs.put(self.folder, own_file.pack(self._meta(), tensors))

    def read(self, sha: str | None) -> Planes:
        """Read and check a file of planes.

        Raises:
            StoreDamagedError: it is missing, damaged, or of other sites.
        """
        if sha is None:
            return ()
        try:
            return self._planes(blobs.get(self.folder, sha))
        except ValueError as err:
            raise StoreDamagedError(f"the ownership index is damaged: {err}", hint="it is counted again") from err

    def mask_of(self, record: ConceptRecord) -> Bits:
        """Read which neurons a concept owns.

        Raises:
            StoreDamagedError, FormatTooNewError: its delta cannot be read, or is of another base model.
        """
        try:
            return pack(read_indices(blobs.get(self.blobs, record["delta"])), self.sizes)
        except ValueError as err:
            raise StoreDamagedError(f"the delta of {record['name']!r} is of another base model: {err}") from err

    def sweep(self, *states: StateRecord) -> None:
        """Delete the files that none of these states refers to. Only for the holder of the store's lock."""
        keep = set().union(*map(files_of, states))
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name not in keep:
                    with suppress(OSError):
                        os.unlink(entry.path)  # noqa: PTH108  as in `files`

    def _meta(self) -> dict[str, object]:
        return {"format": FORMAT, "kind": KIND, "sizes": dict(self.sizes)}

    def _planes(self, data: bytes) -> Planes:
        header = own_file.read_header(data)
        if header.meta != self._meta():
            raise ValueError("metadata: not an index of these sites")
        tensors = own_file.read_tensors(data, header)
        names = [f"plane.{k}" for k in range(len(tensors))]
        if not 1 <= len(names) <= MAX_PLANES or set(tensors) != set(names):
            raise ValueError(f"planes: {len(tensors)}, or not named plane.0, plane.1 …")
        found = tuple(tensors[name] for name in names)
        if any(plane.dtype != np.uint8 or plane.shape != (n_bytes(self.sizes),) for plane in found):
            raise ValueError("planes: not one bit per weight")
        planes, spare = cast("Planes", found), spare_bits(self.sizes)
        if any((plane & spare).any() for plane in planes) or not planes[-1].any():
            raise ValueError("planes: a bit without a weight, or an empty last plane")
        return planes

    def _readable_mask(self, record: ConceptRecord) -> Bits | None:
        try:
            return self.mask_of(record)
        except _UNREADABLE:
            return None

    def _fields(
        self, owned: Bits, *, owners: str | None, recent: Sequence[str | None] = (), uncounted: Sequence[str] = ()
    ) -> dict[str, Any]:
        name = self.write((owned,)) if owned.any() else None
        found = {"owners": owners, "recent": list(recent), "owned": name, "uncounted": sorted(uncounted)}
        return {**found, "free": sum(self.sizes.values()) - count(owned)}

    def _without(self, state: StateRecord, gone: Iterable[ConceptRecord], left: Iterable[ConceptRecord]) -> Count:
        """The count without some concepts, and with those that were not readable before and are now."""
        try:
            planes = self.kept(state)
            for record in gone:
                if record["id"] not in state["uncounted"]:
                    planes = removed(planes, self.mask_of(record))
        except (*_UNREADABLE, ValueError):
            return self.rebuild(left)
        return self._with(planes, [record for record in left if record["id"] in state["uncounted"]])

    def _with(self, planes: Planes, records: Iterable[ConceptRecord]) -> Count:
        uncounted = []
        for record in records:
            mask = self._readable_mask(record)
            if mask is None:
                uncounted.append(record["id"])
            else:
                planes = added(planes, mask)
        return Count(planes=planes, uncounted=tuple(uncounted))


def files_of(state: StateRecord) -> set[str]:
    """Names of the files that a state refers to."""
    return {sha for sha in (state["owners"], state["owned"], *state["recent"]) if sha is not None}
