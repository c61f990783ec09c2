"""The catalogue: one sealed file of documents, the one commit point of a store.

Owns `catalogue.json`, its seal and its previous generation, as storage for TinyDB; must not know transactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from tinydb import TinyDB
from tinydb.storages import Storage

from cnsctl.errors import DiskProblem, FormatTooNew, NotDurable, StoreDamaged
from cnsctl.specs import FORMAT
from cnsctl.store import canonical
from cnsctl.store.files import read_bounded, write_atomic
from cnsctl.store.records import ConceptRecord, RunRecord, StateRecord, concept_fault, run_fault, state_fault

if TYPE_CHECKING:
    from pathlib import Path

    Tables = dict[str, dict[str, Any]]

FILE = "catalogue.json"
PREVIOUS = "catalogue.json.bak"
MAX_BYTES = 256 << 20

_HEAD = b'{"format":%d,"payload":' % FORMAT
_CHECKS = {"concepts": concept_fault, "runs": run_fault, "state": state_fault}


class CatalogueStorage(Storage):
    """TinyDB's storage: read and verified once, changed in memory, written by `commit` alone.

    TinyDB's own storage overwrites its file in place at every operation; a kill in between loses all of it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._committed = _content(folder / FILE)
        try:
            self._tables = unseal(self._committed, str(folder / FILE))
        except StoreDamaged as err:
            raise StoreDamaged(err.what, hint=_way_back(folder)) from err

    def read(self) -> Tables:
        """Give a copy: TinyDB changes what it is given before it knows that the change succeeds."""
        return cast("Tables", _copied(self._tables))

    def write(self, data: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the tables in memory."""
        self._tables = _copied(data)

    def commit(self) -> None:
        """Put the tables on disk, after the generation that they replace; only for the holder of the lock.

        Raises:
            NotDurable: the new tables are on disk, but a power cut may bring the old ones back.
            DiskProblem: the old tables are on disk.
        """
        content = seal(self._tables)
        unseal(content, "the new catalogue")  # a catalogue that could not be read again must not replace one that can
        try:
            write_atomic(self._folder / PREVIOUS, self._committed)
        except NotDurable as err:  # nothing is committed yet
            raise DiskProblem(err.what, hint=err.hint) from err
        self._committed = content
        write_atomic(self._folder / FILE, content)


def over(storage: CatalogueStorage) -> TinyDB:
    """Tables over a storage."""
    return TinyDB(storage=lambda: storage)


def first_tables(n_weights: int) -> Tables:
    """The tables of a store without concepts, all of its K/V weights free."""
    state = StateRecord(generation=0, free=n_weights, overlaps={}, next_seq=1)
    return {"concepts": {}, "runs": {}, "state": {"1": dict(state)}}


def concepts_of(db: TinyDB) -> list[ConceptRecord]:
    """All concepts, in learning order."""
    found = [cast("ConceptRecord", dict(document)) for document in db.table("concepts").all()]
    return sorted(found, key=lambda record: record["seq"])


def runs_of(db: TinyDB) -> list[RunRecord]:
    """All finished learnings and removals, oldest first."""
    return [cast("RunRecord", dict(document)) for document in db.table("runs").all()]


def state_of(db: TinyDB) -> StateRecord:
    """The one state document."""
    return cast("StateRecord", dict(db.table("state").all()[0]))


def seal(tables: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Write tables as the content of a catalogue, itself canonical JSON."""
    payload = canonical.dump(tables)
    return _HEAD + payload + _tail(canonical.sha256(payload))


def unseal(content: bytes, shown: str) -> Tables:
    """Read the content of a catalogue, distrusting all of it.

    Args:
        content: of the file.
        shown: how to call it in a message.

    Raises:
        StoreDamaged, FormatTooNew: with the part that is wrong.
    """
    try:
        envelope = canonical.parse_object(content)
        check_format(envelope.get("format"), shown)
        payload = _payload(envelope, content)
        _check_tables(payload)
    except ValueError as err:
        raise StoreDamaged(f"{shown} is damaged: {err}", hint="restore it from a backup") from err
    return payload


def check_format(found: object, shown: str) -> None:
    """Accept the version of a file, or refuse it.

    Raises:
        FormatTooNew: written by a newer cnsctl.
        ValueError: no version at all.
    """
    if type(found) is not int or found < 1:
        raise ValueError(f"{str(found)[:40]!r} is no format version")
    if found > FORMAT:
        raise FormatTooNew(
            f"{shown} has format {found}, this cnsctl reads up to {FORMAT}: it was written by a newer cnsctl",
            hint="upgrade: pip install --upgrade cnsctl",
        )


def _copied(value: Any) -> Any:
    """Copy JSON values; ten times as fast as `copy.deepcopy`, which must be ready for anything."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path, MAX_BYTES)
    except FileNotFoundError as err:
        raise StoreDamaged(f"{path} is missing", hint=_way_back(path.parent)) from err


def _way_back(folder: Path) -> str:
    """Advice for a catalogue that cannot be read. Going back is the user's decision: it loses the last change."""
    try:
        previous = unseal(read_bounded(folder / PREVIOUS, MAX_BYTES), PREVIOUS)
    except (FileNotFoundError, StoreDamaged, FormatTooNew):
        return f"restore {FILE} from a backup of {folder}"
    return (
        f"the previous generation, with {len(previous['concepts'])} concepts, is in {folder / PREVIOUS}: "
        f"copy it to {FILE} to go back to it, or restore {FILE} from a backup"
    )


def _tail(sha: str) -> bytes:
    return b',"sha256":"%s"}\n' % sha.encode("ascii")


def _payload(envelope: Mapping[str, object], content: bytes) -> Tables:
    """The seal is checked on the bytes as they are: writing them again takes longer than all else that `ls` does."""
    payload = envelope.get("payload")
    if not isinstance(payload, dict):
        raise ValueError("it has no payload")  # noqa: TRY004  one exception for all that is wrong
    raw = content[len(_HEAD) : -len(_tail("0" * 64))]
    if content != _HEAD + raw + _tail(canonical.sha256(raw)):
        raise ValueError("its content is not what was written")
    return payload


def _check_tables(payload: Mapping[str, Any]) -> None:
    if set(payload) != set(_CHECKS):
        raise ValueError(f"its tables are {sorted(str(name)[:40] for name in payload)}")
    for name, fault_of in _CHECKS.items():
        table = payload[name]
        if not isinstance(table, dict):
            raise ValueError(f"{name} is no table")  # noqa: TRY004  one exception for all that is wrong
        for key, document in table.items():
            if not (key.isascii() and key.isdecimal() and len(key) < 16):
                raise ValueError(f"{name} has a document {key[:40]!r}")
            if (fault := fault_of(document)) is not None:
                raise ValueError(f"document {key} of {name}: {fault}")
    if len(payload["state"]) != 1:
        raise ValueError(f"{len(payload['state'])} states")
    _check_concepts(list(payload["concepts"].values()), next_seq=next(iter(payload["state"].values()))["next_seq"])


def _check_concepts(concepts: list[ConceptRecord], *, next_seq: int) -> None:
    for field in ("id", "name", "seq"):
        if len({record[field] for record in concepts}) != len(concepts):
            raise ValueError(f"two concepts have the same {field}")
    if any(record["seq"] >= next_seq for record in concepts):
        raise ValueError("a concept was learned after the last one")
