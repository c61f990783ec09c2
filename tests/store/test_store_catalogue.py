"""Rules of the catalogue file."""

import copy
import json
import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import add, fields, make_delta, names_in, new_store

from cnsctl.errors import FormatTooNew, StoreDamaged
from cnsctl.store import canonical
from cnsctl.store.catalogue import CatalogueStorage, concepts_of, first_tables, over, seal, unseal
from cnsctl.store.records import concept_fault, run_fault, state_fault

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


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "catalogue.json").write_bytes(seal(TABLES))
    return tmp_path


def test_what_is_sealed_is_what_is_read():
    assert unseal(seal(TABLES), "x") == TABLES


def test_a_catalogue_is_canonical_json_that_says_its_format_and_hash():
    content = seal(TABLES)
    envelope = json.loads(content)
    assert content == canonical.dump(envelope) + b"\n"
    assert set(envelope) == {"format", "payload", "sha256"}
    assert envelope["format"] == 1
    assert envelope["sha256"] == canonical.sha256(canonical.dump(envelope["payload"]))


def test_reading_gives_copies(folder):
    storage = CatalogueStorage(folder)
    storage.read()["concepts"]["1"]["name"] = "cat"
    storage.read()["concepts"]["1"]["captions"].clear()
    storage.read()["concepts"].clear()
    assert storage.read() == TABLES


def test_what_is_written_is_copied(folder):
    storage = CatalogueStorage(folder)
    tables = copy.deepcopy(TABLES)
    storage.write(tables)
    tables["concepts"]["1"]["name"] = "cat"
    tables["concepts"].clear()
    assert storage.read() == TABLES


def test_nothing_reaches_the_disk_before_the_commit_and_then_all_in_one_write(folder, monkeypatch):
    replaced = []
    replace = os.replace

    def note(a, b):
        replaced.append(b.name)
        replace(a, b)

    monkeypatch.setattr(os, "replace", note)
    storage = CatalogueStorage(folder)
    db = over(storage)
    for name in ("cat", "cow"):
        number = len(db.table("concepts")) + 1
        db.table("concepts").insert({**RECORD, "name": name, "id": f"{number:016d}", "seq": number})
    db.table("state").update({"next_seq": 9})
    assert replaced == []
    assert (folder / "catalogue.json").read_bytes() == seal(TABLES)
    storage.commit()
    assert replaced == ["catalogue.json.bak", "catalogue.json"]
    assert (folder / "catalogue.json.bak").read_bytes() == seal(TABLES)
    assert [r["name"] for r in concepts_of(over(CatalogueStorage(folder)))] == ["dog", "cat", "cow"]


def test_tables_that_could_not_be_read_again_are_not_committed(folder):
    storage = CatalogueStorage(folder)
    over(storage).table("concepts").insert({"name": "half a concept"})
    with pytest.raises(StoreDamaged, match="new catalogue"):
        storage.commit()
    assert names_in(folder) == ["catalogue.json"]
    assert CatalogueStorage(folder).read() == TABLES


def test_a_damaged_catalogue_points_at_the_previous_generation_and_does_not_use_it(tmp_path):
    store = new_store(tmp_path / "s")
    add(store, "dog", 1)
    add(store, "cat", 2)
    path = store.path / "catalogue.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"cat"', b'"cow"'))
    with pytest.raises(StoreDamaged, match="damaged") as caught:
        store.concepts()
    assert "with 1 concepts" in caught.value.hint
    assert "catalogue.json.bak" in caught.value.hint
    (store.path / "catalogue.json.bak").replace(path)
    assert [c["name"] for c in store.concepts()] == ["dog"], "the advice works"


def test_without_a_readable_previous_generation_a_backup_is_advised(folder):
    (folder / "catalogue.json").write_bytes(b"")
    (folder / "catalogue.json.bak").write_bytes(b"{}")
    with pytest.raises(StoreDamaged) as caught:
        CatalogueStorage(folder)
    assert "from a backup of" in caught.value.hint
    assert ".bak" not in caught.value.hint


def test_a_missing_catalogue_is_damage_and_no_empty_store(folder):
    (folder / "catalogue.json").unlink()
    with pytest.raises(StoreDamaged, match="missing"):
        CatalogueStorage(folder)


def test_a_newer_format_is_refused_by_name():
    with pytest.raises(FormatTooNew, match="format 2") as caught:
        unseal(b'{"format":2,"tables":"in another way"}', "catalogue.json")
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("format_", [0, -1, True, "1", None, 1.0])
def test_a_format_that_is_no_version_is_damage(format_):
    envelope = json.loads(seal(TABLES)) | {"format": format_}
    with pytest.raises(StoreDamaged, match="no format version"):
        unseal(json.dumps(envelope).encode(), "x")


@given(st.data())
@settings(deadline=None, max_examples=200)
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
    with suppress(StoreDamaged, FormatTooNew):
        assert unseal(bytes(damaged), "x") == TABLES


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\xff", b"[" * 200_000, b'{"format":1}', b'{"format":1,"payload":[],"sha256":""}']
)
def test_a_file_that_is_no_catalogue_is_refused_in_words(content):
    with pytest.raises(StoreDamaged):
        unseal(content, "x")


FORGED = {
    "no table": lambda t: t.pop("runs"),
    "more tables": lambda t: t.update(_default={}),
    "table kind": lambda t: t.update(concepts=[]),
    "two states": lambda t: t["state"].update({"2": t["state"]["1"]}),
    "no state": lambda t: t["state"].clear(),
    "key": lambda t: t["concepts"].update({"x": t["concepts"].pop("1")}),
    "same name": lambda t: t["concepts"].update({"2": RECORD | {"id": "1" * 16, "seq": 0}}),
    "same id": lambda t: t["concepts"].update({"2": RECORD | {"name": "cat", "seq": 0}}),
    "same seq": lambda t: t["concepts"].update({"2": RECORD | {"name": "cat", "id": "1" * 16}}),
    "future": lambda t: t["concepts"]["1"].update(seq=2),
    "document": lambda t: t["concepts"].update({"1": 7}),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_a_catalogue_with_a_right_seal_and_wrong_tables_is_refused(forge):
    tables = copy.deepcopy(TABLES)
    forge(tables)
    with pytest.raises(StoreDamaged):
        unseal(seal(tables), "x")


def test_the_sample_record_has_no_fault():
    """Otherwise the faults below would prove nothing."""
    assert concept_fault(RECORD) is None
    assert state_fault(TABLES["state"]["1"]) is None
    assert run_fault({"verb": "add", "name": "dog", "when": RECORD["created"], "outcome": "kept"}) is None


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
        ("class_word", ""),
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
        ("learned", {"clip_i": float("inf")}),
        ("learned", {"clip_i": True}),
    ],
)
def test_a_record_with_one_wrong_field_is_refused_naming_it(field, value):
    assert concept_fault(RECORD | {field: value}) in {field, "captions"}


@pytest.mark.parametrize("document", [None, [], "x", {}, {k: v for k, v in RECORD.items() if k != "id"}])
def test_a_record_with_other_fields_is_refused(document):
    assert concept_fault(document) is not None
    assert concept_fault(RECORD | {"extra": 1}) == "extra (missing or unknown)"


@pytest.mark.parametrize("overlaps", [{"a|b": 1}, {f"{'0' * 16}|{'1' * 16}": -1}, [], {"0" * 16: 1}])
def test_a_state_with_wrong_overlaps_is_refused(overlaps):
    assert state_fault(TABLES["state"]["1"] | {"overlaps": overlaps}) == "overlaps"
