"""The catalogue: one sealed file of documents, whose replacement commits a change of the store.

Owns `catalogue.json`, its seal and its previous generation, as storage for TinyDB; must not know transactions.

It is JSON with one document per line. A commit checks and writes the documents that changed, and copies the other lines.
"""

from __future__ import annotations

import gc
import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from tinydb import TinyDB
from tinydb.storages import Storage

from cnsctl.errors import (
    CapacityError,
    CnsctlError,
    DiskError,
    FormatTooNewError,
    NotDurableError,
    StoreDamagedError,
    StoreLockedError,
)
from cnsctl.formats import canonical
from cnsctl.store.files import read_bounded, write_atomic
from cnsctl.store.migrations import CATALOGUE, upgraded
from cnsctl.store.records import ConceptRecord, StateRecord, concept_fault, frozen, run_fault, state_fault
from cnsctl.store.seal import frame_of, sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Tables = dict[str, dict[str, Any]]

FILE = CATALOGUE
PREVIOUS = "catalogue.json.bak"
REPLACED = "catalogue.json.old"
"""What a commit is about to replace. If it still equals `FILE`, it was not replaced; else it is the previous generation."""

MAX_BYTES = 256 << 20

FORMAT = 1
"""Version of the catalogue."""

_CHECKS = {"concepts": concept_fault, "runs": run_fault, "state": state_fault}
_LINE = re.compile(rb'("([1-9][0-9]{0,14})":\{.*\}),?')
_OPENINGS = {b'%s"%s":{' % (b"}," if i else b"{", name.encode()): name for i, name in enumerate(_CHECKS)}
"""The line that begins each table."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """The content of a catalogue file, checked."""

    content: bytes
    tables: Tables
    """Documents by table and key. Documents are immutable."""
    lines: Mapping[str, Mapping[str, bytes]]
    """Each document as it is written, after its key."""
    unique: Mapping[str, frozenset[object]]
    """The values of the fields in which concepts must differ."""
    format: int
    """Of the file; the documents are those of the newest format."""


class CatalogueStorage(Storage):
    """TinyDB's storage: changed in memory, written only by `commit`.

    TinyDB's own storage overwrites its file in place at every operation; a kill in between loses the whole file.
    Documents are immutable and only replaced, so they need not be copied.
    """

    def __init__(self, folder: Path, catalogue: Catalogue) -> None:
        self._folder = folder
        self._committed = catalogue
        self._tables: Tables = {name: dict(table) for name, table in catalogue.tables.items()}

    def read(self) -> Tables:
        """Return the tables: TinyDB replaces those that it changes, and documents are immutable."""
        return dict(self._tables)

    def write(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the tables in memory."""
        for name, table in data.items():
            if table is not self._tables.get(name):
                self._tables[name] = dict(zip(table, map(frozen, table.values()), strict=True))

    def commit(self, is_locked: Callable[[], bool] = lambda: True, *, keep_previous: bool = True) -> None:
        """Write the tables to disk, after a copy of those that they replace; only for the holder of the lock.

        Args:
            is_locked: is the store still locked by this process? Called right before the rename.
            keep_previous: write that copy; without it, the previous generation is what it was before.

        Raises:
            StoreDamagedError: they could not be read again, so they must not replace readable ones.
            CapacityError: the file would be larger than its reader accepts.
            StoreLockedError: another process has changed the catalogue since it was read.
            NotDurableError: the new tables are on disk, but a power cut may restore the old ones.
            DiskError: the old tables are on disk.
        """
        known = self._committed
        try:
            content = seal(self._tables, known)
        except ValueError as err:
            raise StoreDamagedError(
                f"the new catalogue is damaged: {err}", hint="report this; nothing was changed"
            ) from err
        if len(content) > MAX_BYTES:
            raise CapacityError(
                f"the catalogue would be too large: {len(content)} bytes (at most {MAX_BYTES})",
                note="nothing was changed",
                hint="remove concepts, or use another store",
            )

        def check() -> None:
            """A lock can be lost: its file may be removed, or the disk may not support locks."""
            if not is_locked() or read_bounded(self._folder / FILE, MAX_BYTES) != known.content:
                raise StoreLockedError(
                    f"another process has changed the store meanwhile: {self._folder}",
                    note="nothing was changed by this command",
                    hint="run the same command again; do not remove the file lock",
                )

        check()
        try:
            if keep_previous:
                try:
                    write_atomic(self._folder / REPLACED, known.content)
                except NotDurableError as err:  # nothing is committed yet
                    raise DiskError(err.what, hint=err.hint) from err
            write_atomic(self._folder / FILE, content, before=check)
        finally:
            if is_locked():
                settle(self._folder)


def settle(folder: Path) -> None:
    """After a commit, whatever became of it: let what it replaced be the previous generation. Only under the store's lock.

    If it fails or is killed, the next writer does it; until then `load_previous` reads the right file.
    """
    with suppress(OSError, CnsctlError):
        if _is_replaced(folder):
            os.replace(folder / REPLACED, folder / PREVIOUS)  # noqa: PTH105  as in `files`
        else:
            os.unlink(folder / REPLACED)  # noqa: PTH108  as in `files`


def _is_replaced(folder: Path) -> bool:
    """Has the commit that wrote `REPLACED` replaced the catalogue?

    Raises:
        FileNotFoundError: it does not exist.
        StoreDamagedError, DiskError: one of the two cannot be read.
    """
    replaced = read_bounded(folder / REPLACED, MAX_BYTES)
    try:
        return replaced != read_bounded(folder / FILE, MAX_BYTES)
    except FileNotFoundError:
        return True


def over(storage: CatalogueStorage) -> TinyDB:
    """Open TinyDB on a storage."""
    return TinyDB(storage=lambda: storage)


def first_tables(n_weights: int) -> Tables:
    """The tables of a store without concepts, with all K/V weights free."""
    state = StateRecord(generation=0, free=n_weights, next_seq=1, owners=None, recent=[], owned=None, uncounted=[])
    return {"concepts": {}, "runs": {}, "state": {"1": dict(state)}}


def load(folder: Path, known: Catalogue | None = None) -> Catalogue:
    """Read and check the catalogue of a store; returns `known` if it is unchanged.

    Raises:
        StoreDamagedError: it is missing or damaged; the hint says how to restore it.
        FormatTooNewError: written by a newer cnsctl.
    """
    content = _content(folder / FILE)
    if known is not None and known.content == content:
        return known
    try:
        with _uncollected():
            return unseal(content, str(folder / FILE))
    except StoreDamagedError as err:
        raise _damaged(folder, err.what) from err


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause the garbage collector: JSON has no cycles, and with torch loaded a collection takes longer than reading."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def concepts_of(tables: Tables) -> list[ConceptRecord]:
    """All concepts, in training order."""
    return sorted(tables["concepts"].values(), key=itemgetter("seq"))


def state_of(db: TinyDB) -> StateRecord:
    """The one state document."""
    return cast("StateRecord", dict(db.table("state").all()[0]))


def seal(tables: Mapping[str, Mapping[str, Any]], known: Catalogue | None = None) -> bytes:
    """Encode tables as the content of a catalogue; unchanged documents of `known` are copied.

    Raises:
        ValueError: the result could not be read again.
    """
    if set(tables) != set(_CHECKS):
        raise ValueError(f"its tables are {sorted(str(name)[:40] for name in tables)}")
    lines: dict[str, dict[str, bytes]] = {}
    for name, table in tables.items():
        before, written = ({}, {}) if known is None else (known.tables[name], known.lines[name])
        changed = [key for key, document in table.items() if before.get(key) is not document]
        lines[name] = {**written, **{key: _line(name, key, table[key]) for key in changed}}
        for key in before.keys() - table:
            del lines[name][key]
    _check_whole(tables, known)
    payload = _joined(lines)
    return sealed(payload, FORMAT)


def unseal(content: bytes, shown: str) -> Catalogue:
    """Decode and check the content of a catalogue.

    Args:
        content: of the file.
        shown: its name in messages.

    Raises:
        StoreDamagedError: the message names the part that is wrong.
        FormatTooNewError: written by a newer cnsctl.
    """
    try:
        number, payload = frame_of(content, FORMAT, shown)
        if number < FORMAT:
            newest = seal(upgraded(FILE, number, payload, FORMAT))
            return replace(unseal(newest, shown), content=content, format=number)
        lines = _lines(payload)
        tables = {name: {key: _document(line) for key, line in table.items()} for name, table in lines.items()}
        for name, table in tables.items():
            for key, document in table.items():
                _check_document(name, key, document)
        unique = _check_whole(tables)
    except ValueError as err:
        raise StoreDamagedError(f"{shown} is damaged: {err}", hint="restore it from a backup") from err
    held = {name: {key: frozen(document) for key, document in table.items()} for name, table in tables.items()}
    return Catalogue(content=content, tables=held, lines=lines, unique=unique, format=number)


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_BYTES)
    except FileNotFoundError as err:
        raise _damaged(path.parent, f"{path} is missing") from err


def load_previous(folder: Path) -> Catalogue:
    """Read and check the previous generation.

    Raises:
        FileNotFoundError: there is none, as in a new store.
        StoreDamagedError, FormatTooNewError: it is damaged, or of a newer cnsctl.
    """
    path = folder / PREVIOUS
    with suppress(FileNotFoundError):
        if _is_replaced(folder):
            path = folder / REPLACED
    try:
        content = read_bounded(path, MAX_BYTES)
    except FileNotFoundError:  # a writer has just given it its final name
        content = read_bounded(folder / PREVIOUS, MAX_BYTES)
    return unseal(content, str(path))


def _damaged(folder: Path, what: str) -> StoreDamagedError:
    """The error about an unreadable catalogue. The user decides to go back, because that loses the last change."""
    try:
        previous = load_previous(folder)
    except (FileNotFoundError, StoreDamagedError, FormatTooNewError, DiskError):
        return StoreDamagedError(what, hint=f"restore {FILE} from a backup of {folder}")
    note = f"the previous generation is intact and has {len(previous.tables['concepts'])} concepts"
    return StoreDamagedError(what, note=note, reason="previous-generation")


def _line(name: str, key: str, document: Mapping[str, Any]) -> bytes:
    _check_document(name, key, document)
    return b'"%s":%s' % (key.encode("ascii"), canonical.dump(document))


def _document(line: bytes) -> dict[str, object]:
    return canonical.parse_object(line[line.index(b":") + 1 :])


def _joined(lines: Mapping[str, Mapping[str, bytes]]) -> bytes:
    pieces = []
    for opening, name in _OPENINGS.items():
        table = lines[name]
        pieces += [opening, b"\n", b",\n".join([table[key] for key in sorted(table, key=int)]), b"\n" if table else b""]
    return b"".join([*pieces, b"}}"])


def _lines(payload: bytes) -> dict[str, dict[str, bytes]]:
    """Split a payload into lines, so that joining them gives the same bytes."""
    lines: dict[str, dict[str, bytes]] = {name: {} for name in _CHECKS}
    table: dict[str, bytes] = {}
    for line in payload.split(b"\n"):
        if line in _OPENINGS:
            table = lines[_OPENINGS[line]]
        elif (found := _LINE.fullmatch(line)) is not None:
            table[found[2].decode("ascii")] = found[1]
    if _joined(lines) != payload:
        raise ValueError("it does not have the tables of a catalogue")
    return lines


def _check_document(name: str, key: str, document: object) -> None:
    if (fault := _CHECKS[name](document)) is not None:
        raise ValueError(f"document {key} of {name}: {fault}")


def _check_whole(
    tables: Mapping[str, Mapping[str, Any]], known: Catalogue | None = None
) -> Mapping[str, frozenset[object]]:
    """Check what must hold between documents, each of which is valid; of `known`, only what changed is looked at.

    Returns:
        The values of the fields in which concepts must differ.
    """
    if len(tables["state"]) != 1:
        raise ValueError(f"{len(tables['state'])} states")
    concepts, (state,) = tables["concepts"], tables["state"].values()
    before, unique = ({}, {}) if known is None else (known.tables["concepts"], known.unique)
    gone = [document for key, document in before.items() if concepts.get(key) is not document]
    new = [document for key, document in concepts.items() if before.get(key) is not document]
    found = {}
    for field in ("id", "name", "seq"):
        values = unique.get(field, frozenset()).difference([document[field] for document in gone])
        found[field] = values.union([document[field] for document in new])
        if len(found[field]) != len(values) + len(new):
            raise ValueError(f"two concepts have the same {field}")
    if any(seq >= state["next_seq"] for seq in found["seq"]):
        raise ValueError("a concept was trained after the last one")
    return found
