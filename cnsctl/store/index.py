"""The ownership index on disk: one file, named by the SHA-256 of its content, which the catalogue refers to.

It holds nothing that the deltas do not: when it is missing or damaged, it is counted again from those that can be read.
Owns its format, its reading and its update; must not know transactions.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from cnsctl.errors import DiskProblem, FormatTooNew, StoreDamaged
from cnsctl.specs import FORMAT
from cnsctl.store import blobs
from cnsctl.store.codec import read_indices
from cnsctl.store.container import pack, read_header, read_tensors
from cnsctl.store.files import make_folder
from cnsctl.store.ownership import Bits, Planes, added, n_bytes, removed, spare_bits
from cnsctl.store.ownership import pack as packed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from cnsctl.store.records import ConceptRecord

KIND = "owners"
MAX_PLANES = 32

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


def sweep(folder: Path, keep: Collection[str | None]) -> None:
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
    return _with(Count(planes=(), uncounted=()), blob_folder, records, sizes)


def update(
    folder: Path,
    blob_folder: Path,
    before: tuple[str | None, Collection[str]],
    *,
    gone: Iterable[ConceptRecord],
    left: Iterable[ConceptRecord],
    sizes: Mapping[str, int],
) -> Count:
    """Take concepts out of an index; it is not written.

    Args:
        folder: of the index.
        blob_folder: of the deltas.
        before: the index's name and the ids of the concepts that it does not count.
        gone: concepts to take out; their deltas are read.
        left: all others; theirs are read only where the index, or a delta to take out, cannot be.
        sizes: weights per site.
    """
    sha, uncounted = before
    left = list(left)
    try:
        planes = read(folder, sha, sizes)
        for record in gone:
            if record["id"] not in uncounted:
                planes = removed(planes, mask_of(blob_folder, record, sizes))
    except (*_UNREADABLE, ValueError):
        return rebuild(blob_folder, left, sizes)
    late = [record for record in left if record["id"] in uncounted]
    return _with(Count(planes=planes, uncounted=()), blob_folder, late, sizes)


def _with(count: Count, blob_folder: Path, records: Iterable[ConceptRecord], sizes: Mapping[str, int]) -> Count:
    planes, uncounted = count.planes, list(count.uncounted)
    for record in records:
        try:
            planes = added(planes, mask_of(blob_folder, record, sizes))
        except _UNREADABLE:
            uncounted.append(record["id"])
    return Count(planes=planes, uncounted=tuple(sorted(uncounted)))
