"""Rules of the catalogue file."""

import copy
import json
import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import add, fields, make_delta, names_in, new_store

from cnsctl.errors import FormatTooNewError, StoreDamagedError
from cnsctl.formats import canonical
from cnsctl.store.catalogue import CatalogueStorage, concepts_of, first_tables, load, over, seal, unseal
from cnsctl.store.records import concept_fault, frozen, run_fault, state_fault
from cnsctl.store.seal import sealed

RECORD = {
    **fields("dog", make_delta(0)),
    "id": "0" * 16,
    "seq": 1,
    "neurons": 5,
    "bytes": 900,
    "delta": "a" * 64,
    "references": ["b" * 64, "c" * 64],
    "probe": "d" * 64,
    "preview": None,
}
TABLES = {**first_tables(100), "concepts": {"1": RECORD}}
TABLES["state"]["1"]["next_seq"] = 2
FROZEN = {name: {key: frozen(document) for key, document in table.items()} for name, table in TABLES.items()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "catalogue.json").write_bytes(seal(TABLES))
    return tmp_path


def test_sealed_tables_are_read_unchanged():
    assert unseal(seal(TABLES), "x").tables == FROZEN


def test_a_catalogue_is_json_with_a_line_per_document_and_its_format_and_hash():
    content = seal(TABLES)
    envelope = json.loads(content)
    assert set(envelope) == {"format", "payload", "sha256"}
    assert envelope["format"] == 1
    assert envelope["payload"] == TABLES
    payload = content[len(b'{"format":1,"payload":') : -len(b',"sha256":""}\n') - 64]
    assert envelope["sha256"] == canonical.sha256(content[: -len(b',"sha256":""}\n') - 64])
    assert payload.split(b"\n")[1] == b'"1":' + canonical.dump(RECORD)


def test_equal_tables_in_any_order_give_equal_bytes():
    tables = {**TABLES, "concepts": {str(n): RECORD | {"id": f"{n:016d}", "name": f"c{n}", "seq": 0} for n in (10, 9)}}
    for n, record in enumerate(tables["concepts"].values()):
        record["seq"] = n
    tables["state"] = {"1": TABLES["state"]["1"] | {"next_seq": 2}}
    turned = {name: dict(reversed(table.items())) for name, table in reversed(tables.items())}
    assert seal(tables) == seal(turned)


def test_documents_that_were_read_are_immutable(folder):
    storage = CatalogueStorage(folder, load(folder))
    for tables in (storage.read(), load(folder).tables):
        document = tables["concepts"]["1"]
        with pytest.raises(TypeError):
            document["name"] = "cat"
        with pytest.raises(AttributeError):
            document["captions"].clear()
        with pytest.raises(TypeError):
            document["recipe"]["steps"] = 1
    storage.read().clear()
    assert storage.read() == FROZEN


def test_documents_that_were_written_are_copies(folder):
    storage = CatalogueStorage(folder, load(folder))
    tables = copy.deepcopy(TABLES)
    storage.write(tables)
    tables["concepts"]["1"]["name"] = "cat"
    tables["concepts"]["1"]["recipe"].clear()
    tables["concepts"]["1"]["captions"].clear()
    tables["concepts"].clear()
    assert storage.read() == FROZEN


def test_a_commit_checks_and_writes_new_documents_and_copies_the_other_lines(folder, monkeypatch):
    catalogue = load(folder)
    dumped, honest = [], canonical.dump
    monkeypatch.setattr(canonical, "dump", lambda value: dumped.append(value) or honest(value))
    storage = CatalogueStorage(folder, catalogue)
    over(storage).table("concepts").insert({**RECORD, "name": "cat", "id": "1" * 16, "seq": 0})
    storage.commit()
    assert [document["name"] for document in dumped] == ["cat"]
    assert load(folder).lines["concepts"]["1"] == catalogue.lines["concepts"]["1"]
    assert load(folder).content == seal(load(folder).tables), "a copied line equals the one that would be written"


def test_an_unchanged_catalogue_is_not_checked_again(folder):
    catalogue = load(folder)
    assert load(folder, catalogue) is catalogue
    (folder / "catalogue.json").write_bytes(seal(first_tables(100)))
    assert load(folder, catalogue).tables["concepts"] == {}


def test_nothing_is_written_before_the_commit_and_then_all_at_once(folder, monkeypatch):
    replaced = []
    replace = os.replace

    def note(a, b):
        replaced.append(b.name)
        replace(a, b)

    monkeypatch.setattr(os, "replace", note)
    storage = CatalogueStorage(folder, load(folder))
    db = over(storage)
    for name in ("cat", "cow"):
        number = len(db.table("concepts")) + 1
        db.table("concepts").insert({**RECORD, "name": name, "id": f"{number:016d}", "seq": number})
    db.table("state").truncate()
    db.table("state").insert({**TABLES["state"]["1"], "next_seq": 9})
    assert replaced == []
    assert (folder / "catalogue.json").read_bytes() == seal(TABLES)
    storage.commit()
    assert replaced == ["catalogue.json.old", "catalogue.json", "catalogue.json.bak"]
    assert (folder / "catalogue.json.bak").read_bytes() == seal(TABLES)
    assert [r["name"] for r in concepts_of(load(folder).tables)] == ["dog", "cat", "cow"]


def test_tables_that_could_not_be_read_again_are_not_committed(folder):
    storage = CatalogueStorage(folder, load(folder))
    over(storage).table("concepts").insert({"name": "half a concept"})
    with pytest.raises(StoreDamagedError, match="new catalogue"):
        storage.commit()
    assert names_in(folder) == ["catalogue.json"]
    assert load(folder).tables == FROZEN


def test_a_damaged_catalogue_names_the_previous_generation_and_does_not_use_it(tmp_path):
    store = new_store(tmp_path / "s")
    add(store, "dog", 1)
    add(store, "cat", 2)
    path = store.path / "catalogue.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"cat"', b'"cow"'))
    with pytest.raises(StoreDamagedError, match="damaged") as caught:
        store.concepts()
    assert "1 concepts" in caught.value.note
    assert caught.value.reason == "previous-generation"
    (store.path / "catalogue.json.bak").replace(path)
    assert [c["name"] for c in store.concepts()] == ["dog"], "the advice works"


def test_without_a_readable_previous_generation_a_backup_is_advised(folder):
    (folder / "catalogue.json").write_bytes(b"")
    (folder / "catalogue.json.bak").write_bytes(b"{}")
    with pytest.raises(StoreDamagedError) as caught:
        load(folder)
    assert "from a backup of" in caught.value.hint
    assert ".bak" not in caught.value.hint


def test_a_missing_catalogue_is_damage_and_no_empty_store(folder):
    (folder / "catalogue.json").unlink()
    with pytest.raises(StoreDamagedError, match="missing"):
        load(folder)


def test_a_newer_format_is_refused_by_name():
    with pytest.raises(FormatTooNewError, match="format 2") as caught:
        unseal(b'{"format":2,"tables":"in another way"}', "catalogue.json")
    assert (caught.value.reason, caught.value.note) == ("upgrade", "written by a newer cnsctl; this one reads up to 1")


@pytest.mark.parametrize("format_", [0, -1, True, "1", None, 1.0])
def test_a_format_that_is_not_a_version_is_damage(format_):
    envelope = json.loads(seal(TABLES)) | {"format": format_}
    with pytest.raises(StoreDamagedError, match="not a format version"):
        unseal(json.dumps(envelope).encode(), "x")


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_random_damage_never_changes_what_is_read(data):
    damaged = bytearray(seal(TABLES))
    at = data.draw(st.integers(0, len(damaged) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if kind == "flip":
        damaged[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del damaged[at:]
    else:
        damaged[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    with suppress(StoreDamagedError, FormatTooNewError):
        assert unseal(bytes(damaged), "x").tables == FROZEN


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\xff", b"[" * 200_000, b'{"format":1}', b'{"format":1,"payload":[],"sha256":""}']
)
def test_a_file_that_is_not_a_catalogue_is_refused(content):
    with pytest.raises(StoreDamagedError):
        unseal(content, "x")


FORGED = {
    "two states": lambda t: t["state"].update({"2": t["state"]["1"]}),
    "no state": lambda t: t["state"].clear(),
    "key": lambda t: t["concepts"].update({"x": t["concepts"].pop("1")}),
    "key with a zero": lambda t: t["concepts"].update({"01": t["concepts"].pop("1")}),
    "same name": lambda t: t["concepts"].update({"2": RECORD | {"id": "1" * 16, "seq": 0}}),
    "same id": lambda t: t["concepts"].update({"2": RECORD | {"name": "cat", "seq": 0}}),
    "same seq": lambda t: t["concepts"].update({"2": RECORD | {"name": "cat", "id": "1" * 16}}),
    "future": lambda t: t["concepts"]["1"].update(seq=2),
    "document": lambda t: t["concepts"].update({"1": 7}),
    "field": lambda t: t["concepts"]["1"].update(name="Dog"),
}


def with_seal(payload):
    """A catalogue with a valid seal and this payload."""
    return sealed(payload, 1)


def payload_of(tables):
    pieces = []
    for name, table in tables.items():
        lines = b",\n".join(b'"%s":%s' % (key.encode(), canonical.dump(document)) for key, document in table.items())
        pieces.append(b'"%s":{\n%s' % (name.encode(), lines + b"\n" if lines else b""))
    return b"{" + b"},".join(pieces) + b"}}"


def test_the_functions_above_can_write_a_valid_catalogue():
    """Otherwise the forgeries would prove nothing."""
    assert with_seal(payload_of({name: TABLES[name] for name in ("concepts", "runs", "state")})) == seal(TABLES)


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_a_catalogue_with_a_valid_seal_and_wrong_tables_is_refused(forge):
    tables = copy.deepcopy(TABLES)
    forge(tables)
    with pytest.raises(StoreDamagedError):
        unseal(with_seal(payload_of(tables)), "x")


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.replace(b'},"runs":{\n', b""),
        lambda p: p.replace(b'"runs"', b'"walks"'),
        lambda p: p.replace(b'{"concepts"', b'{"_default":{\n},"concepts"'),
        lambda p: p.replace(b"\n", b"\n\n", 1),
        lambda p: p.replace(b"\n", b"\nx\n", 1),
        lambda p: p.replace(b"\n", b""),
        lambda p: p.replace(b'"1":{"bytes"', b'"1": {"bytes"'),
        lambda p: p.replace(b'"1":{"bytes"', b'"1":{}{"bytes"'),
        lambda p: p.replace(b'"bytes":900', b'"bytes":900,"bytes":901'),
        lambda p: p.replace(b'"bytes":900', b'"bytes":NaN'),
        lambda p: p + b"\n",
        lambda p: b"{}",
        lambda p: b"[]",
        lambda p: b"",
    ],
)
def test_a_catalogue_with_a_valid_seal_and_other_lines_is_refused(change):
    payload = payload_of(TABLES)
    assert change(payload) != payload
    with pytest.raises(StoreDamagedError):
        unseal(with_seal(change(payload)), "x")


def test_tables_that_are_not_those_of_a_catalogue_are_not_sealed():
    for wrong in ({**TABLES, "_default": {}}, {"state": TABLES["state"]}):
        with pytest.raises(ValueError, match="its tables are"):
            seal(wrong)


def test_the_sample_record_has_no_fault():
    """Otherwise the faults below would prove nothing."""
    assert concept_fault(RECORD) is None
    assert state_fault(TABLES["state"]["1"]) is None
    assert (
        run_fault({"verb": "add", "name": "dog", "when": RECORD["created"], "outcome": "kept", "seconds": 1.5}) is None
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "dog"),
        ("name", "Dog"),
        ("name", "dog\n"),
        ("name", "../x"),
        ("seq", -1),
        ("seq", True),
        ("seq", 1.0),
        ("class_word", "a\x1b[2J"),
        ("class_word", " "),
        ("class_word", "\ud800"),
        ("tokens", 0),
        ("neurons", 1 << 53),
        ("share", 1.5),
        ("share", float("nan")),
        ("share_denoiser", "0.1"),
        ("bytes", None),
        ("created", "yesterday"),
        ("created", "2026-11-24T10:00:00"),
        ("created", "٢٠٢٦-11-24T10:00:00Z"),
        ("delta", "a" * 63),
        ("references", "b" * 64),
        ("references", ["b" * 64]),
        ("captions", [None, 7]),
        ("captions", [None]),
        ("captions", [None, "\udfff"]),
        ("probe", None),
        ("preview", ""),
        ("recipe", []),
        ("recipe", {"steps": [1]}),
        ("recipe", {"policy": "\x07"}),
        ("scores", {"clip_i": float("inf")}),
        ("scores", {"clip_i": True}),
    ],
)
def test_a_record_with_one_wrong_field_is_refused_with_the_field(field, value):
    assert concept_fault(RECORD | {field: value}) in {field, "captions"}


@pytest.mark.parametrize("document", [None, [], "x", {}, {k: v for k, v in RECORD.items() if k != "id"}])
def test_a_record_without_a_field_is_refused(document):
    assert concept_fault(document) is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("owners", "x"),
        ("owners", 7),
        ("owned", "A" * 64),
        ("recent", ["x"]),
        ("recent", None),
        ("uncounted", None),
        ("uncounted", ["dog"]),
        ("free", -1),
    ],
)
def test_a_state_with_one_wrong_field_is_refused_with_the_field(field, value):
    assert state_fault(TABLES["state"]["1"] | {field: value}) == field
