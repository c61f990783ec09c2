"""Checking a store: every file that it needs, and that they agree with each other.

Owns what is compared; must not know how it is repaired or what a training state contains.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from cnsctl.errors import CnsctlError, DiskError, FormatTooNewError, StoreDamagedError
from cnsctl.store import blobs, catalogue, layout
from cnsctl.store import manifest as manifest_file
from cnsctl.store.files import entries_of, read_bounded
from cnsctl.store.index import files_of
from cnsctl.store.records import blobs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cnsctl.store.records import ConceptRecord
    from cnsctl.store.snapshot import Snapshot
    from cnsctl.store.store import Store

UNREADABLE = (FileNotFoundError, StoreDamagedError, DiskError, FormatTooNewError)


class Kind(StrEnum):
    """What can be done about a problem."""

    DERIVED = "derived"
    """It can be made again from what is intact."""
    LOST = "lost"
    """Only a backup restores it."""
    UNNEEDED = "unneeded"
    """Nothing needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A part that is not as it was written."""

    part: str
    """File or folder, relative to the store."""
    what: str
    kind: Kind
    concepts: tuple[str, ...] = ()
    """Names of those that need it."""


@dataclass(slots=True)
class Tally:
    """What was looked at."""

    files: int = 0
    bytes: int = 0
    concepts: int = 0
    unreferenced: dict[str, int] = field(default_factory=dict)
    """Sizes of files in `blobs/` that the catalogue does not refer to, by name."""


def problems(store: Store, tally: Tally, *, read_data: bool) -> Iterator[Problem | None]:
    """All problems of a store; None after each file, for a view of the progress.

    Args:
        store: is only read.
        tally: gets what was looked at.
        read_data: read every byte; otherwise files are compared by name and size.
    """
    yield from _of_manifest(store.path)
    found, problem = _snapshot(store)
    yield problem
    yield _of_previous(store.path)
    yield from _of_base(store, tally, read_data=read_data)
    if found is not None:
        tally.concepts = len(found.concepts)
        if (missing := store.blobs_problem()) is not None:
            names = tuple(record["name"] for record in found.concepts)
            yield Problem(part=layout.BLOBS, what=missing, kind=Kind.LOST, concepts=names)
            return
        yield from _of_blobs(store, found, tally, read_data=read_data)
        yield _of_index(store, found, recount=read_data)
        yield from _of_other_indices(store, found) if read_data else ()


def _of_manifest(folder: Path) -> Iterator[Problem]:
    """`store.json` and its copy, of which the store was opened with one."""
    for name, other in ((manifest_file.FILE, manifest_file.COPY), (manifest_file.COPY, manifest_file.FILE)):
        try:
            manifest_file.from_bytes(read_bounded(folder / name, manifest_file.MAX_BYTES), name)
        except UNREADABLE as err:
            yield Problem(part=name, what=f"{said(err)}; {other} is intact", kind=Kind.DERIVED)


def _snapshot(store: Store) -> tuple[Snapshot | None, Problem | None]:
    try:
        return store.snapshot(), None
    except StoreDamagedError as err:
        with suppress(*UNREADABLE):
            n = len(catalogue.load_previous(store.path).tables["concepts"])
            what = f"{said(err)}; the previous generation is intact and has {n} concepts"
            return None, Problem(part=catalogue.FILE, what=what, kind=Kind.DERIVED)
        return None, Problem(part=catalogue.FILE, what=said(err), kind=Kind.LOST)
    except (DiskError, FormatTooNewError) as err:  # another disk, or a newer cnsctl, may read it: do not go back
        return None, Problem(part=catalogue.FILE, what=said(err), kind=Kind.LOST)


def _of_previous(folder: Path) -> Problem | None:
    """The previous generation, which a new store does not have."""
    try:
        catalogue.load_previous(folder)
    except FileNotFoundError:
        pass
    except (StoreDamagedError, DiskError, FormatTooNewError) as err:
        return Problem(part=catalogue.PREVIOUS, what=said(err), kind=Kind.DERIVED)
    return None


def _of_base(store: Store, tally: Tally, *, read_data: bool) -> Iterator[Problem | None]:
    """The files of the base model in the store, or of its configuration."""
    if store.base.path is not None and store.base.kind != "file":
        return
    for name, expected in store.base.files.items():
        path = store.base_folder / name
        try:
            tally.bytes += path.stat().st_size
            is_intact = not read_data or _file_hash(path) == expected
        except OSError as err:
            yield Problem(part=f"{layout.BASE}/{name}", what=_reason(err), kind=Kind.LOST)
            continue
        tally.files += 1
        what = "its content has another SHA-256 than recorded"
        yield None if is_intact else Problem(part=f"{layout.BASE}/{name}", what=what, kind=Kind.LOST)


def _of_blobs(store: Store, found: Snapshot, tally: Tally, *, read_data: bool) -> Iterator[Problem | None]:
    needed: dict[str, list[ConceptRecord]] = {}
    for record in found.concepts:
        for sha in dict.fromkeys(blobs_of(record)):
            needed.setdefault(sha, []).append(record)
    folder = store.path / layout.BLOBS
    sizes = {entry.name: entry.stat().st_size for entry in entries_of(folder) if entry.is_file()}
    tally.files += len(sizes)
    tally.bytes += sum(sizes.values())
    tally.unreferenced = {name: size for name, size in sizes.items() if name not in needed}
    for sha, records in needed.items():
        names = tuple(record["name"] for record in records)
        what = _blob_fault(store, sha, records, sizes, read_data=read_data)
        yield None if what is None else Problem(part=f"{layout.BLOBS}/{sha}", what=what, kind=Kind.LOST, concepts=names)
    for sha in tally.unreferenced if read_data else ():
        if blobs.SHA256.fullmatch(sha):
            what = _blob_fault(store, sha, [], sizes, read_data=True)
            yield None if what is None else Problem(part=f"{layout.BLOBS}/{sha}", what=what, kind=Kind.UNNEEDED)


def _blob_fault(
    store: Store, sha: str, records: list[ConceptRecord], sizes: Mapping[str, int], *, read_data: bool
) -> str | None:
    """What is wrong with a blob, or None."""
    if sha not in sizes:
        return MISSING
    deltas = [record for record in records if record["delta"] == sha]
    if any(record["bytes"] != sizes[sha] for record in deltas):
        return f"it has {sizes[sha]} bytes instead of {deltas[0]['bytes']}"
    try:
        if read_data:
            store.blob(sha)
            for record in deltas:
                store.delta(record)
    except (StoreDamagedError, DiskError, FormatTooNewError) as err:
        return said(err)
    return None


def _of_index(store: Store, found: Snapshot, *, recount: bool) -> Problem | None:
    """The ownership index: its files, that they agree with the count of free neurons, and with the deltas."""
    from cnsctl.store import ownership

    index, state = store.index, found.state
    fault = None
    try:
        planes = index.kept(state)
        free = store.base.n_weights - ownership.count(ownership.union(planes, store.base.sizes))
        if state["owned"] is not None and free != state["free"]:
            fault = f"it has {free} free neurons, the catalogue {state['free']}"
        if fault is None and recount:
            counted = index.rebuild(record for record in found.concepts if record["id"] not in state["uncounted"])
            equal = len(planes) == len(counted.planes) and all(map(np.array_equal, planes, counted.planes))
            if not counted.uncounted and not equal:
                fault = "it differs from a count of the deltas"
    except (CnsctlError, FileNotFoundError) as err:
        fault = said(err)
    return None if fault is None else Problem(part=layout.INDEX, what=fault, kind=Kind.DERIVED)


def _of_other_indices(store: Store, found: Snapshot) -> Iterator[Problem]:
    """Files of the index that only the previous generation needs."""
    folder = store.path / layout.INDEX
    for path in entries_of(folder) if folder.is_dir() else ():
        if blobs.SHA256.fullmatch(path.name) and path.name not in files_of(found.state):
            try:
                blobs.get(folder, path.name)
            except (StoreDamagedError, DiskError) as err:
                yield Problem(part=f"{layout.INDEX}/{path.name}", what=said(err), kind=Kind.UNNEEDED)


MISSING = "it is missing"


def said(err: BaseException) -> str:
    """An error in words."""
    return MISSING if isinstance(err, FileNotFoundError) else str(getattr(err, "what", err))


def _reason(err: OSError) -> str:
    return MISSING if isinstance(err, FileNotFoundError) else f"it cannot be read: {err.strerror}"


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
