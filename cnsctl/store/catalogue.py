"""The catalogue: one sealed file of documents, the one commit point of a store.

Owns `catalogue.json`, its seal and its previous generation, as storage for TinyDB; must not know transactions.

It is JSON with a document per line: a commit checks and writes the documents that changed, and copies the other lines.
"""

from __future__ import annotations

import gc
import re
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from tinydb import TinyDB
from tinydb.storages import Storage

from cnsctl.concept import FORMAT
from cnsctl.errors import DiskError, FormatTooNewError, NotDurableError, StoreDamagedError
from cnsctl.formats import canonical
from cnsctl.store.files import read_bounded, write_atomic
from cnsctl.store.records import ConceptRecord, StateRecord, concept_fault, frozen, run_fault, state_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Tables = dict[str, dict[str, Any]]

FILE = "catalogue.json"
PREVIOUS = "catalogue.json.bak"
MAX_BYTES = 256 << 20

_HEAD = b'{"format":%d,"payload":' % FORMAT
_CHECKS = {"concepts": concept_fault, "runs": run_fault, "state": state_fault}
_LINE = re.compile(rb'("([1-9][0-9]{0,14})":\{.*\}),?')
_OPENINGS = {b'%s"%s":{' % (b"}," if i else b"{", name.encode()): name for i, name in enumerate(_CHECKS)}
"""The line that begins each table."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """The content of a catalogue's file, checked."""

    content: bytes
    tables: Tables
    """Documents by table and key; no document can be changed."""
    lines: Mapping[str, Mapping[str, bytes]]
    """How each document is written, its key before it."""


class CatalogueStorage(Storage):
    """TinyDB's storage: changed in memory, written by `commit` alone.

    TinyDB's own storage overwrites its file in place at every operation; a kill in between loses all of it. Documents
    that were read cannot be changed in place, only replaced, so nothing needs to be copied.
    """

    def __init__(self, folder: Path, catalogue: Catalogue) -> None:
        self._folder = folder
        self._committed = catalogue
        self._tables: Tables = {name: dict(table) for name, table in catalogue.tables.items()}

    def read(self) -> Tables:
        """Give the tables: TinyDB replaces those that it changes, and nobody can change a document."""
        return dict(self._tables)

    def write(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the tables in memory."""
        for name, table in data.items():
            if table is not self._tables.get(name):
                self._tables[name] = {key: frozen(document) for key, document in table.items()}

    def commit(self) -> None:
        """Put the tables on disk, after the generation that they replace; only for the holder of the lock.

        Raises:
            StoreDamagedError: they could not be read again: they must not replace ones that can.
            NotDurableError: the new tables are on disk, but a power cut may bring the old ones back.
            DiskError: the old tables are on disk.
        """
        known = self._committed
        try:
            content = seal(self._tables, known)
        except ValueError as err:
            raise StoreDamagedError(
                f"the new catalogue is damaged: {err}", hint="report this; nothing was changed"
            ) from err
        try:
            write_atomic(self._folder / PREVIOUS, known.content)
        except NotDurableError as err:  # nothing is committed yet
            raise DiskError(err.what, hint=err.hint) from err
        write_atomic(self._folder / FILE, content)


def over(storage: CatalogueStorage) -> TinyDB:
    """Tables over a storage."""
    return TinyDB(storage=lambda: storage)


def first_tables(n_weights: int) -> Tables:
    """The tables of a store without concepts, all of its K/V weights free."""
    state = StateRecord(generation=0, free=n_weights, next_seq=1, owners=None, recent=[], owned=None, uncounted=[])
    return {"concepts": {}, "runs": {}, "state": {"1": dict(state)}}


def load(folder: Path, known: Catalogue | None = None) -> Catalogue:
    """Read and check a store's catalogue; `known` is given back where it is the same.

    Raises:
        StoreDamagedError: it is missing or damaged; the hint names the way back.
        FormatTooNewError: written by a newer cnsctl.
    """
    content = _content(folder / FILE)
    if known is not None and known.content == content:
        return known
    try:
        with _uncollected():
            return unseal(content, str(folder / FILE))
    except StoreDamagedError as err:
        raise StoreDamagedError(err.what, hint=_way_back(folder)) from err


@contextmanager
def _uncollected() -> Iterator[None]:
    """Do not look for reference cycles: JSON has none, and with torch loaded that takes longer than all the reading."""
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
    """Write tables as the content of a catalogue; documents of `known` as they were written there.

    Raises:
        ValueError: they could not be read again.
    """
    if set(tables) != set(_CHECKS):
        raise ValueError(f"its tables are {sorted(str(name)[:40] for name in tables)}")
    lines: dict[str, dict[str, bytes]] = {}
    for name, table in tables.items():
        before, written = ({}, {}) if known is None else (known.tables[name], known.lines[name])
        lines[name] = {
            key: written[key] if before.get(key) is document else _line(name, key, document)
            for key, document in table.items()
        }
    _check_whole(tables)
    payload = _joined(lines)
    return _HEAD + payload + _tail(canonical.sha256(payload))


def unseal(content: bytes, shown: str) -> Catalogue:
    """Read the content of a catalogue, distrusting all of it.

    Args:
        content: of the file.
        shown: how to call it in a message.

    Raises:
        StoreDamagedError, FormatTooNewError: with the part that is wrong.
    """
    try:
        payload = content[len(_HEAD) : -len(_tail("0" * 64))]
        if content != _HEAD + payload + _tail(canonical.sha256(payload)):
            check_format(canonical.parse_object(content).get("format"), shown)
            raise ValueError("its content is not what was written")
        lines = _lines(payload)
        tables = {name: {key: _document(line) for key, line in table.items()} for name, table in lines.items()}
        for name, table in tables.items():
            for key, document in table.items():
                _check_document(name, key, document)
        _check_whole(tables)
    except ValueError as err:
        raise StoreDamagedError(f"{shown} is damaged: {err}", hint="restore it from a backup") from err
    held = {name: {key: frozen(document) for key, document in table.items()} for name, table in tables.items()}
    return Catalogue(content=content, tables=held, lines=lines)


def check_format(found: object, shown: str) -> None:
    """Accept the version of a file, or refuse it.

    Raises:
        FormatTooNewError: written by a newer cnsctl.
        ValueError: no version at all.
    """
    if type(found) is not int or found < 1:
        raise ValueError(f"{str(found)[:40]!r} is no format version")
    if found > FORMAT:
        raise FormatTooNewError(
            f"{shown} has format {found}",
            note=f"written by a newer cnsctl; this one reads up to {FORMAT}",
            reason="upgrade",
        )


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_BYTES)
    except FileNotFoundError as err:
        raise StoreDamagedError(f"{path} is missing", hint=_way_back(path.parent)) from err


def _way_back(folder: Path) -> str:
    """Advice for a catalogue that cannot be read. Going back is the user's decision: it loses the last change."""
    try:
        previous = unseal(read_bounded(folder / PREVIOUS, MAX_BYTES), PREVIOUS)
    except (FileNotFoundError, StoreDamagedError, FormatTooNewError):
        return f"restore {FILE} from a backup of {folder}"
    return (
        f"the previous generation, with {len(previous.tables['concepts'])} concepts, is in {folder / PREVIOUS}: "
        f"copy it to {FILE} to go back to it, or restore {FILE} from a backup"
    )


def _tail(sha: str) -> bytes:
    return b',"sha256":"%s"}\n' % sha.encode("ascii")


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
    """Take a payload apart, so that joining gives the same bytes."""
    lines: dict[str, dict[str, bytes]] = {name: {} for name in _CHECKS}
    table: dict[str, bytes] = {}
    for line in payload.split(b"\n"):
        if line in _OPENINGS:
            table = lines[_OPENINGS[line]]
        elif (found := _LINE.fullmatch(line)) is not None:
            table[found[2].decode("ascii")] = found[1]
    if _joined(lines) != payload:
        raise ValueError("its tables are not those of a catalogue")
    return lines


def _check_document(name: str, key: str, document: object) -> None:
    if (fault := _CHECKS[name](document)) is not None:
        raise ValueError(f"document {key} of {name}: {fault}")


def _check_whole(tables: Mapping[str, Mapping[str, Any]]) -> None:
    """What holds between documents that are right one by one."""
    if len(tables["state"]) != 1:
        raise ValueError(f"{len(tables['state'])} states")
    concepts, (state,) = list(tables["concepts"].values()), tables["state"].values()
    for field in ("id", "name", "seq"):
        if len({record[field] for record in concepts}) != len(concepts):
            raise ValueError(f"two concepts have the same {field}")
    if any(record["seq"] >= state["next_seq"] for record in concepts):
        raise ValueError("a concept was trained after the last one")
