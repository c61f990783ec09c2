"""The ownership index on disk: which neurons concepts own, and how many own each.

Three kinds of files, each named by the SHA-256 of its content, to which the catalogue's state refers: `owned`, one bit
per weight; `owners`, the numbers of owners as bit planes; `recent`, the masks of the concepts added since, so that only
each ninth one costs the writing of all planes. It holds nothing that the deltas do not: what is missing or damaged is
counted again from those that can be read. Owns format, reading and update; must not know transactions.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cnsctl.errors import DiskProblem, FormatTooNew, StoreDamaged
from cnsctl.specs import FORMAT
from cnsctl.store import blobs
from cnsctl.store.codec import read_indices
from cnsctl.store.container import pack, read_header, read_tensors
from cnsctl.store.files import make_folder
from cnsctl.store.ownership import Bits, Planes, added, count, n_bytes, removed, spare_bits, union
from cnsctl.store.ownership import pack as packed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from cnsctl.store.records import ConceptRecord, StateRecord

KIND = "owners"
MAX_PLANES = 32

RECENT_KEPT = 8
"""Masks beside the planes. Each is as large as a plane."""

_UNREADABLE = (StoreDamaged, DiskProblem, FormatTooNew)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Count:
    """How many concepts own each neuron."""

    planes: Planes
    uncounted: tuple[str, ...]
    """Ids of concepts whose delta could not be read; they are counted as soon as it can be."""


def write(folder: Path, planes: Planes, sizes: Mapping[str, int]) -> str | None:
    """Keep an index durably and return its name; where no neuron is owned there is no file.

    Raises:
        DiskProblem: it cannot be written.
    """
    if not planes:
        return None
    make_folder(folder)
    meta = {"format": FORMAT, "kind": KIND, "sizes": dict(sizes)}
    return blobs.put(folder, pack(meta, {f"plane.{k}": plane for k, plane in enumerate(planes)}))


def read(folder: Path, sha: str | None, sizes: Mapping[str, int]) -> Planes:
    """Read an index, distrusting every part of it.

    Raises:
        StoreDamaged: it is missing, damaged, or of other sites.
    """
    if sha is None:
        return ()
    data = blobs.get(folder, sha)
    try:
        header = read_header(data)
        if header.meta != {"format": FORMAT, "kind": KIND, "sizes": dict(sizes)}:
            raise ValueError("metadata: it is not an index of these sites")
        tensors = read_tensors(data, header)
        names = [f"plane.{k}" for k in range(len(tensors))]
        if not 1 <= len(names) <= MAX_PLANES or set(tensors) != set(names):
            raise ValueError(f"planes: {len(tensors)}, or not named plane.0, plane.1 …")
        planes = tuple(tensors[name] for name in names)
        if any(plane.dtype != np.uint8 or plane.shape != (n_bytes(sizes),) for plane in planes):
            raise ValueError("planes: not one bit per weight")
        found = cast("Planes", planes)
        spare = spare_bits(sizes)
        if any((plane & spare).any() for plane in found) or not found[-1].any():
            raise ValueError("planes: a bit without a weight, or a last plane without a bit")
    except ValueError as err:
        raise StoreDamaged(f"the ownership index is damaged: {err}", hint="it is counted again") from err
    return found


def files_of(state: StateRecord) -> set[str]:
    """Names of the files that a state refers to."""
    return {sha for sha in (state["owners"], state["owned"], *state["recent"]) if sha is not None}


def sweep(folder: Path, keep: Collection[str]) -> None:
    """Delete the indices that no catalogue refers to any more. Only for the holder of the store's lock."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in keep:
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108  as in `files`


def mask_of(blob_folder: Path, record: ConceptRecord, sizes: Mapping[str, int]) -> Bits:
    """Read which neurons a concept owns.

    Raises:
        StoreDamaged, FormatTooNew: its delta cannot be read, or is of another base.
    """
    try:
        return packed(read_indices(blobs.get(blob_folder, record["delta"])), sizes)
    except ValueError as err:
        raise StoreDamaged(f"the delta of {record['name']!r} is of another base: {err}") from err


def rebuild(blob_folder: Path, records: Iterable[ConceptRecord], sizes: Mapping[str, int]) -> Count:
    """Count the owners from the deltas, those that can be read: the only time that all of them are."""
    return _with((), blob_folder, records, sizes)


def kept(folder: Path, state: StateRecord, sizes: Mapping[str, int]) -> Planes:
    """The numbers of owners, as all files of the index together say them.

    Raises:
        StoreDamaged: one is missing or damaged, or they contradict each other.
    """
    planes = read(folder, state["owners"], sizes)
    for sha in state["recent"]:
        (mask,) = read(folder, sha, sizes)
        planes = added(planes, mask)
    if not np.array_equal(union(planes, sizes), union(read(folder, state["owned"], sizes), sizes)):
        raise StoreDamaged("the ownership index contradicts itself", hint="it is counted again")
    return planes


def owned_bits(
    folder: Path,
    blob_folder: Path,
    state: StateRecord,
    *,
    besides: Sequence[ConceptRecord],
    left: Iterable[ConceptRecord],
    sizes: Mapping[str, int],
) -> Bits:
    """Which neurons concepts own, those `besides` left out; arguments as of `update`."""
    if not besides:
        with suppress(*_UNREADABLE):
            return union(read(folder, state["owned"], sizes), sizes)
    return union(_without(folder, blob_folder, state, gone=besides, left=left, sizes=sizes).planes, sizes)


def update(
    folder: Path,
    blob_folder: Path,
    state: StateRecord,
    *,
    gone: Sequence[ConceptRecord],
    left: Iterable[ConceptRecord],
    new: Sequence[Bits],
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    """Take concepts out of the index, put others in, and write it.

    Args:
        folder: of the index.
        blob_folder: of the deltas.
        state: as it is; its files stay.
        gone: concepts to take out; their deltas are read.
        left: those that stay; their deltas are read only where the index, or a delta to take out, cannot be.
        new: masks of the concepts to put in.
        sizes: weights per site.

    Returns:
        The fields of the new state that concern the index.

    Raises:
        DiskProblem: full, read-only or failing.
    """
    new = [mask for mask in new if mask.any()]
    if not gone and not state["uncounted"] and len(state["recent"]) + len(new) <= RECENT_KEPT:
        with suppress(*_UNREADABLE):
            owned = read(folder, state["owned"], sizes)
            recent = [*state["recent"], *(write(folder, (mask,), sizes) for mask in new)]
            return _fields(folder, sizes, union((*owned, *new), sizes), owners=state["owners"], recent=recent)
    counted = _without(folder, blob_folder, state, gone=gone, left=left, sizes=sizes)
    planes = counted.planes
    for mask in new:
        planes = added(planes, mask)
    owners = write(folder, planes, sizes)
    return _fields(folder, sizes, union(planes, sizes), owners=owners, recent=[], uncounted=counted.uncounted)


def _fields(
    folder: Path,
    sizes: Mapping[str, int],
    owned: Bits,
    *,
    owners: str | None,
    recent: Sequence[str | None],
    uncounted: Sequence[str] = (),
) -> dict[str, Any]:
    name = write(folder, (owned,), sizes) if owned.any() else None
    found = {"owners": owners, "recent": list(recent), "owned": name, "uncounted": sorted(uncounted)}
    return {**found, "free": sum(sizes.values()) - count(owned)}


def _without(
    folder: Path,
    blob_folder: Path,
    state: StateRecord,
    *,
    gone: Iterable[ConceptRecord],
    left: Iterable[ConceptRecord],
    sizes: Mapping[str, int],
) -> Count:
    left = list(left)
    try:
        planes = kept(folder, state, sizes)
        for record in gone:
            if record["id"] not in state["uncounted"]:
                planes = removed(planes, mask_of(blob_folder, record, sizes))
    except (*_UNREADABLE, ValueError):
        return rebuild(blob_folder, left, sizes)
    return _with(planes, blob_folder, [record for record in left if record["id"] in state["uncounted"]], sizes)


def _with(planes: Planes, blob_folder: Path, records: Iterable[ConceptRecord], sizes: Mapping[str, int]) -> Count:
    uncounted = []
    for record in records:
        try:
            planes = added(planes, mask_of(blob_folder, record, sizes))
        except _UNREADABLE:
            uncounted.append(record["id"])
    return Count(planes=planes, uncounted=tuple(uncounted))
