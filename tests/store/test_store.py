"""Rules of making, opening and asking a store."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from store_samples import (
    CREATED,
    N_WEIGHTS,
    SITES,
    add,
    assert_sound,
    fields,
    make_delta,
    names_in,
    new_store,
    reference,
    same_delta,
    stage,
)

from cnsctl.concept import Mode
from cnsctl.errors import (
    BaseModelError,
    ConceptNotFoundError,
    DiskError,
    FormatTooNewError,
    StoreDamagedError,
    StoreNotFoundError,
    UsageError,
)
from cnsctl.store import Store, default_path, delta_key
from cnsctl.store.catalogue import seal
from cnsctl.store.records import frozen


@pytest.fixture
def store(tmp_path):
    return new_store(tmp_path / "s")


@pytest.fixture
def base_files(tmp_path):
    """A base of two files."""
    folder = tmp_path / "base"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "model.safetensors").write_bytes(b"weights")
    (folder / "model_index.json").write_bytes(b"{}")
    return folder


# making and opening


def test_a_new_store_is_empty_and_says_what_it_was_made_on(store):
    assert store.concepts() == ()
    assert store.runs() == ()
    assert store.free() == {"neurons": N_WEIGHTS, "share": 1.0}
    assert store.generation() == 0
    assert (store.mode, store.created) == (Mode.PROMPT, CREATED)
    assert store.base == reference()
    assert Store.open(store.path).base == store.base


@pytest.mark.parametrize("mode", Mode)
def test_the_mode_of_birth_is_the_mode_for_ever(tmp_path, mode):
    Store.create(tmp_path / "s", base=reference(kind="folder", path="/a/b"), mode=mode, created=CREATED)
    store = Store.open(tmp_path / "s")
    assert (store.mode, store.base.kind, store.base.path) == (mode, "folder", "/a/b")


def test_a_store_can_be_made_in_an_empty_folder_and_in_a_new_one_deep_down(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new" / "deep"):
        new_store(path)
        assert assert_sound(path) == []
    assert names_in(tmp_path) == ["empty", "new"], "nothing unfinished is left beside it"


def test_a_link_to_an_empty_folder_leads_to_the_store(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    new_store(tmp_path / "link")
    assert assert_sound(tmp_path / "disk") == []


def test_a_store_is_not_made_twice(store):
    add(store, "dog")
    with pytest.raises(UsageError, match="already"):
        new_store(store.path)
    assert assert_sound(store.path) == ["dog"]


def test_a_folder_with_anything_in_it_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"mine")
    with pytest.raises(UsageError, match="not empty and no store"):
        new_store(tmp_path)
    with pytest.raises(UsageError, match="no folder"):
        new_store(tmp_path / "notes.txt")
    assert names_in(tmp_path) == ["notes.txt"]


def test_of_two_who_make_a_store_at_once_one_is_refused(tmp_path, monkeypatch):
    rename = os.rename

    def late(source, target):
        monkeypatch.setattr(os, "rename", rename)
        new_store(tmp_path / "s")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(UsageError, match="already"):
        new_store(tmp_path / "s")
    assert names_in(tmp_path) == ["s"]


def test_an_empty_disk_becomes_a_store(tmp_path, monkeypatch):
    """A mount point cannot be replaced, and beside it nothing can be made; a fresh disk has a folder of its own."""
    disk = tmp_path / "disk"
    (disk / "lost+found").mkdir(parents=True)
    (disk / ".tmp-disk-1-aa").mkdir()  # as a killed init leaves it
    rename, mkdir = os.rename, os.mkdir

    def refuse(path) -> None:
        if Path(path) == disk or Path(path).parent == tmp_path:
            raise OSError(16, "busy")

    monkeypatch.setattr(os, "rename", lambda a, b: (refuse(b), rename(a, b)))
    monkeypatch.setattr(os, "mkdir", lambda p, *rest: (refuse(p), mkdir(p, *rest)))
    new_store(disk)
    assert assert_sound(disk) == []
    assert (disk / "lost+found").is_dir()


@pytest.mark.parametrize("nth", range(1, 7))
def test_an_empty_folder_that_cannot_become_a_store_stays_empty(tmp_path, monkeypatch, nth):
    """Whichever rename fails."""
    (tmp_path / "s").mkdir()
    rename, left = os.rename, iter(range(nth - 1))

    def failing(source, target):
        if next(left, None) is None:
            raise OSError(28, "full")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        try:
            new_store(tmp_path / "s")
        except DiskError:
            assert names_in(tmp_path / "s") == []
        else:
            assert nth > 4, "a store has as many entries, each renamed into place"
    Store.open(tmp_path / "s") if names_in(tmp_path / "s") else new_store(tmp_path / "s")


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename", "mkdir"])
def test_a_store_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch, call):
    original = getattr(os, call)

    def fail(path, *args, **kwargs):
        if call == "open" and not args[0] & os.O_CREAT:
            return original(path, *args, **kwargs)
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(DiskError, match="disk is full"):
            new_store(tmp_path / "s")
    assert names_in(tmp_path) == []


def test_the_base_is_copied_never_linked(tmp_path, base_files):
    store = new_store(tmp_path / "s", base_files=base_files)
    copy = store.base_folder / "unet" / "model.safetensors"
    assert copy.read_bytes() == b"weights"
    assert copy.stat().st_nlink == 1
    with (base_files / "unet" / "model.safetensors").open("r+b") as original:
        original.write(b"changed")
    assert copy.read_bytes() == b"weights"


def test_of_a_base_exactly_the_recorded_files_are_copied(tmp_path, base_files):
    (base_files / "junk").write_bytes(b"")
    base = reference(files={"unet/model.safetensors": "a" * 64})
    store = Store.create(tmp_path / "s", base=base, mode=Mode.PROMPT, created=CREATED, base_files=base_files)
    assert [str(p.relative_to(store.base_folder)) for p in store.base_folder.rglob("*.*")] == ["unet/model.safetensors"]
    assert names_in(store.base_folder) == ["unet"]


def test_a_base_without_a_recorded_file_makes_no_store(tmp_path, base_files):
    base = reference(files={"vae/model.safetensors": "a" * 64})
    with pytest.raises(BaseModelError, match=r"vae/model.safetensors"):
        Store.create(tmp_path / "s", base=base, mode=Mode.PROMPT, created=CREATED, base_files=base_files)
    assert names_in(tmp_path) == ["base"]


def test_where_nothing_is_there_is_no_store(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(StoreNotFoundError, match=str(path)) as caught:
            Store.open(path)
        assert "cnsctl init" in caught.value.hint
        assert caught.value.exit_status == 10


def test_a_store_without_its_birth_certificate_is_damaged_not_absent(store):
    (store.path / "store.json").unlink()
    with pytest.raises(StoreDamagedError, match=r"store\.json is missing"):
        Store.open(store.path)


def test_a_store_of_a_newer_format_is_refused_by_name(store):
    document = json.loads((store.path / "store.json").read_bytes())
    (store.path / "store.json").write_text(json.dumps({"format": 2, "born": document}))
    with pytest.raises(FormatTooNewError, match="newer cnsctl"):
        Store.open(store.path)


WRONG_BIRTH = {
    "format": lambda d: d.update(format="1"),
    "extra": lambda d: d.update(name="x"),
    "mode": lambda d: d.update(mode="blend"),
    "mode kind": lambda d: d.update(mode=["prompt"]),
    "created": lambda d: d.update(created=None),
    "base": lambda d: d.update(base=[]),
    "base field": lambda d: d["base"].pop("family"),
    "kind": lambda d: d["base"].update(kind="hub"),
    "path relative": lambda d: d["base"].update(path="../base"),
    "fingerprint": lambda d: d["base"].update(fingerprint=7),
    "name": lambda d: d["base"].update(name="\x1b[2J"),
    "files up": lambda d: d["base"].update(files={"../x": "a" * 64}),
    "files absolute": lambda d: d["base"].update(files={"/x": "a" * 64}),
    "files spelling": lambda d: d["base"].update(files={"a//x": "a" * 64}),
    "files empty": lambda d: d["base"].update(files={"": "a" * 64}),
    "files hash": lambda d: d["base"].update(files={"x": "a" * 63}),
    "sites": lambda d: d["base"].update(sites={}),
    "site": lambda d: d["base"].update(sites={"../x": [1, 1]}),
    "site shape": lambda d: d["base"].update(sites={"x": [1]}),
    "site zero": lambda d: d["base"].update(sites={"x": [0, 1]}),
    "weights": lambda d: d["base"].update(denoiser_weights=0),
}


@pytest.mark.parametrize("change", WRONG_BIRTH.values(), ids=WRONG_BIRTH.keys())
def test_a_birth_certificate_that_is_wrong_in_one_part_is_refused(store, change):
    path = store.path / "store.json"
    document = json.loads(path.read_bytes())
    Store.open(store.path)
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(StoreDamagedError, match=r"store\.json"):
        Store.open(store.path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{" * 10**5, b"\xff", b'{"format":1,"format":1}'])
def test_a_birth_certificate_that_is_no_json_is_refused_in_words(store, content):
    (store.path / "store.json").write_bytes(content)
    with pytest.raises(StoreDamagedError):
        Store.open(store.path)


def test_native_windows_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UsageError, match="Windows is supported through WSL"):
        Store.open(tmp_path)
    with pytest.raises(UsageError, match="Windows is supported through WSL"):
        new_store(tmp_path / "s")


def test_the_place_of_the_store_is_the_variable_s_else_the_user_s_data(monkeypatch, tmp_path):
    monkeypatch.setenv("CNSCTL_STORE", str(tmp_path))
    assert default_path() == tmp_path
    monkeypatch.setenv("CNSCTL_STORE", "")
    assert default_path().name == "cnsctl"


# asking


def test_concepts_come_in_learning_order_with_all_their_fields(store):
    for seed, name in enumerate(["dog", "cat", "ant"]):
        add(store, name, seed)
    records = store.concepts()
    assert [r["name"] for r in records] == ["dog", "cat", "ant"]
    record, delta = records[1], make_delta(1)
    assert {k: record[k] for k in fields("cat", delta)} == frozen(fields("cat", delta))
    assert same_delta(store.delta(record), delta)
    assert record["delta"] == delta_key(delta)
    assert store.blob(record["references"][0]) == b"png of cat"
    assert store.blob(record["probe"]) == b"probe of cat"
    assert store.blob(record["preview"]) == b"p"


def test_a_snapshot_never_changes_and_the_next_one_is_of_now(store):
    add(store, "dog")
    before = store.snapshot()
    with pytest.raises(TypeError):
        before.concepts[0]["name"] = "cat"
    with pytest.raises(TypeError):
        before.by_name["cat"] = before.concepts[0]
    other = Store.open(store.path)
    add(other, "cat", 1)
    assert list(before.names) == ["dog"]
    assert list(store.snapshot().names) == ["dog", "cat"]
    assert store.snapshot().concept("cat") is store.snapshot().concepts[1]


def test_a_version_of_the_catalogue_is_read_and_checked_once(store, monkeypatch):
    from cnsctl.store import catalogue

    add(store, "dog")
    read, honest = [], catalogue.unseal
    monkeypatch.setattr(catalogue, "unseal", lambda *args: read.append(1) or honest(*args))
    store = Store.open(store.path)
    for _ in range(5):
        store.snapshot(), store.concepts(), store.concept("dog"), store.free(), store.generation(), store.runs()
    assert len(read) == 1
    with store.transaction("mv") as tx:
        tx.rename("dog", "rex")
    assert len(read) == 1, "the block changes what was read already"
    store.concept("rex"), store.concept("rex")
    assert len(read) == 2


def test_a_block_builds_on_what_is_on_disk_even_where_the_file_looks_the_same(store, monkeypatch):
    """File systems may give another version the inode, size and time of the one before."""
    add(store, "dog", 0)
    stale = Store.open(store.path)
    stale.snapshot()
    found = (store.path / "catalogue.json").stat()
    add(store, "cat", 1)
    honest = Path.stat
    monkeypatch.setattr(Path, "stat", lambda p, **kw: found if p.name == "catalogue.json" else honest(p, **kw))
    add(stale, "ant", 2)
    monkeypatch.undo()
    assert assert_sound(store.path) == ["dog", "cat", "ant"]


def test_an_unknown_concept_is_answered_with_the_nearest_names(store):
    with pytest.raises(ConceptNotFoundError) as empty:
        store.concept("dgo")
    assert "cnsctl add" in empty.value.hint
    add(store, "dog")
    with pytest.raises(ConceptNotFoundError, match="'dgo'") as caught:
        store.concept("dgo")
    assert "did you mean dog?" in caught.value.hint
    assert caught.value.exit_status == 4
    with pytest.raises(ConceptNotFoundError) as far:
        store.concept("zzzzzz")
    assert "cnsctl ls" in far.value.hint


def test_overlaps_are_counted_from_the_deltas_when_they_are_asked_for(store):
    for seed, name in enumerate(["dog", "cat", "ant"]):
        add(store, name, seed)
    cat, others = store.concept("cat"), [store.concept("dog"), store.concept("ant")]
    shared = {
        name: sum(len(np.intersect1d(make_delta(1).indices[s], make_delta(seed).indices[s])) for s in SITES)
        for name, seed in (("dog", 0), ("ant", 2))
    }
    assert store.index.overlaps(cat, others) == shared
    assert shared["dog"] > 0
    (store.path / "blobs" / others[0]["delta"]).write_bytes(b"")
    assert store.index.overlaps(cat, others) == shared | {"dog": None}
    assert store.index.overlaps(others[0], [cat]) == {"cat": None}


def test_a_missing_or_cut_delta_is_seen_without_reading_it(store):
    record = add(store, "dog")
    path = store.path / "blobs" / record["delta"]
    assert not store.is_damaged(record)
    path.write_bytes(path.read_bytes()[:-1])
    assert store.is_damaged(record)
    path.unlink()
    assert store.is_damaged(record)


def test_a_damaged_blob_is_reported_and_the_rest_still_reads(store):
    add(store, "dog", 0)
    add(store, "cat", 1)
    record = store.concept("dog")
    path = store.path / "blobs" / record["delta"]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreDamagedError, match=record["delta"]):
        store.delta(record)
    assert same_delta(store.delta(store.concept("cat")), make_delta(1))


def test_a_delta_of_another_base_is_not_given_out(store):
    record = add(store, "dog")
    birth = json.loads((store.path / "store.json").read_bytes())
    birth["base"]["fingerprint"] = "e" * 64
    (store.path / "store.json").write_text(json.dumps(birth))
    with pytest.raises(StoreDamagedError, match="'dog' was learned on base ffff"):
        Store.open(store.path).delta(record)


def test_two_hundred_concepts_are_listed_right(store):
    """Also: listing reads the catalogue alone, once."""
    record = add(store, "c0")
    tables = json.loads((store.path / "catalogue.json").read_bytes())["payload"]
    tables["concepts"] = {
        str(i + 1): {**record, "name": f"c{i}", "seq": i + 1, "id": f"{i:016x}", "neurons": i}
        for i in reversed(range(200))
    }
    tables["state"]["1"] |= {"next_seq": 201}
    (store.path / "catalogue.json").write_bytes(seal(tables))
    (store.path / "blobs").rename(store.path / "elsewhere")
    store = Store.open(store.path)
    records = store.concepts()
    assert [(r["name"], r["neurons"]) for r in records] == [(f"c{i}", i) for i in range(200)]
    assert store.concept("c117")["seq"] == 118


def test_a_delta_given_out_is_the_caller_s_own(store):
    record = add(store, "dog")
    delta = store.delta(record)
    delta.values["up.0.to_k"][:] = np.float16(0)
    assert same_delta(store.delta(record), make_delta(0))


def test_the_store_can_be_moved_as_a_folder(store, tmp_path):
    add(store, "dog")
    store.path.rename(tmp_path / "moved")
    assert assert_sound(tmp_path / "moved") == ["dog"]
    with pytest.raises(StoreNotFoundError), store.transaction("add") as tx:
        stage(tx, "cat", make_delta(1))
    assert not Path(store.path).exists()
