"""Rules of creating, opening and reading a store."""

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
    base_record,
    fields,
    make_delta,
    manifest_of,
    names_in,
    new_store,
    same_delta,
    stage,
    write_manifest,
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
from cnsctl.results import Free
from cnsctl.store import Store, default_path, delta_key
from cnsctl.store.catalogue import seal
from cnsctl.store.records import frozen


@pytest.fixture
def store(tmp_path):
    return new_store(tmp_path / "s")


@pytest.fixture
def base_files(tmp_path):
    """A base model of two files."""
    folder = tmp_path / "base"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "model.safetensors").write_bytes(b"weights")
    (folder / "model_index.json").write_bytes(b"{}")
    return folder


# creating and opening


def test_a_new_store_is_empty_and_has_the_record_of_its_base_model(store):
    assert store.concepts() == ()
    assert store.runs() == ()
    assert store.free() == Free(neurons=N_WEIGHTS, share=1.0)
    assert store.generation() == 0
    assert (store.mode, store.created) == (Mode.PROMPT, CREATED)
    assert store.base == base_record()
    assert Store.open(store.path).base == store.base


@pytest.mark.parametrize("mode", Mode)
def test_the_mode_of_a_store_never_changes(tmp_path, mode):
    Store.create(tmp_path / "s", base=base_record(kind="folder", path="/a/b"), mode=mode, created=CREATED)
    store = Store.open(tmp_path / "s")
    assert (store.mode, store.base.kind, store.base.path) == (mode, "folder", "/a/b")


def test_a_store_can_be_created_in_an_empty_folder_and_in_a_new_nested_one(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new" / "deep"):
        new_store(path)
        assert assert_sound(path) == []
    assert names_in(tmp_path) == ["empty", "new"], "no temporary folder is left beside it"


def test_a_store_can_be_created_through_a_link_to_an_empty_folder(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    new_store(tmp_path / "link")
    assert assert_sound(tmp_path / "disk") == []


def test_a_store_is_not_created_twice(store):
    add(store, "dog")
    with pytest.raises(UsageError, match="already"):
        new_store(store.path)
    assert assert_sound(store.path) == ["dog"]


def test_a_folder_that_is_not_empty_is_refused_and_unchanged(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"mine")
    with pytest.raises(UsageError, match="not empty"):
        new_store(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        new_store(tmp_path / "notes.txt")
    assert names_in(tmp_path) == ["notes.txt"]


def test_of_two_processes_that_create_a_store_at_once_one_is_refused(tmp_path, monkeypatch):
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
    """A mount point cannot be replaced, its parent is not writable, and an empty disk contains lost+found."""
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
def test_an_empty_folder_in_which_a_rename_fails_stays_empty(tmp_path, monkeypatch, nth):
    """For each rename."""
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
            assert nth > 4, "a store has four entries, each renamed into place"
    Store.open(tmp_path / "s") if names_in(tmp_path / "s") else new_store(tmp_path / "s")


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename", "mkdir"])
def test_a_store_that_cannot_be_created_leaves_no_files(tmp_path, monkeypatch, call):
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


def test_the_base_model_is_copied_and_not_linked(tmp_path, base_files):
    store = new_store(tmp_path / "s", base_files=base_files)
    copy = store.base_folder / "unet" / "model.safetensors"
    assert copy.read_bytes() == b"weights"
    assert copy.stat().st_nlink == 1
    with (base_files / "unet" / "model.safetensors").open("r+b") as original:
        original.write(b"changed")
    assert copy.read_bytes() == b"weights"


def test_exactly_the_recorded_files_of_a_base_model_are_copied(tmp_path, base_files):
    (base_files / "junk").write_bytes(b"")
    base = base_record(files={"unet/model.safetensors": "a" * 64})
    store = Store.create(tmp_path / "s", base=base, mode=Mode.PROMPT, created=CREATED, base_files=base_files)
    assert [str(p.relative_to(store.base_folder)) for p in store.base_folder.rglob("*.*")] == ["unet/model.safetensors"]
    assert names_in(store.base_folder) == ["unet"]


def test_a_store_is_not_created_if_a_recorded_file_of_the_base_model_is_missing(tmp_path, base_files):
    base = base_record(files={"vae/model.safetensors": "a" * 64})
    with pytest.raises(BaseModelError, match=r"vae/model.safetensors"):
        Store.create(tmp_path / "s", base=base, mode=Mode.PROMPT, created=CREATED, base_files=base_files)
    assert names_in(tmp_path) == ["base"]


def test_a_path_without_a_store_is_reported_with_the_path(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(StoreNotFoundError, match=str(path)) as caught:
            Store.open(path)
        assert caught.value.reason == "store-missing"
        assert caught.value.exit_status == 10


def test_a_store_without_its_manifest_is_damaged_and_not_absent(store):
    (store.path / "store.json").unlink()
    (store.path / "store.json.bak").unlink()
    with pytest.raises(StoreDamagedError, match=r"store\.json is missing"):
        Store.open(store.path)


def test_promise_7_a_store_of_a_newer_format_is_refused_by_name(store):
    for name in ("store.json", "store.json.bak"):
        (store.path / name).write_text(json.dumps({"format": 4, "manifest": {}}))
    with pytest.raises(FormatTooNewError, match="newer cnsctl"):
        Store.open(store.path)


WRONG_MANIFEST = {
    "mode": lambda d: d.update(mode="blend"),
    "mode kind": lambda d: d.update(mode=["prompt"]),
    "created": lambda d: d.update(created=None),
    "base": lambda d: d.update(base=[]),
    "base field": lambda d: d["base"].pop("family"),
    "kind": lambda d: d["base"].update(kind="hub"),
    "prediction": lambda d: d["base"].update(prediction="flow"),
    "origin": lambda d: d["base"].update(origin="a\nb"),
    "clip": lambda d: d.update(clip=[]),
    "clip field": lambda d: d.update(clip={"name": "x", "path": "/x"}),
    "clip path": lambda d: d.update(clip={"name": "x", "path": "x", "fingerprint": "a" * 64}),
    "clip fingerprint": lambda d: d.update(clip={"name": "x", "path": "/x", "fingerprint": "a"}),
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


@pytest.mark.parametrize("change", WRONG_MANIFEST.values(), ids=WRONG_MANIFEST.keys())
def test_a_manifest_with_one_wrong_part_is_refused(store, change):
    document = manifest_of(store.path)
    Store.open(store.path)
    change(document)
    write_manifest(store.path, document)
    with pytest.raises(StoreDamagedError, match=r"store\.json"):
        Store.open(store.path)


def test_places_and_metric_models_are_replaced_alone_and_kept(store):
    from dataclasses import replace

    from cnsctl.store import MetricModel

    clip = MetricModel(name="clip", path="/models/clip", fingerprint="a" * 64, origin="owner/clip@0123")
    judge = MetricModel(name="dino", path="/models/dino", fingerprint="b" * 64)
    moved = replace(store.base, path="/elsewhere", origin="owner/name@4567", prediction="v_prediction")
    store.set_places(base=moved, clip=clip)
    store.set_places(judge=judge)
    again = Store.open(store.path)
    for opened in (store, again):
        assert (opened.base, opened.clip, opened.judge) == (moved, clip, judge)
        assert (opened.mode, opened.created) == (store.mode, store.created)
    with pytest.raises(ValueError, match="another base model"):
        store.set_places(base=replace(moved, fingerprint="c" * 64))
    assert Store.open(store.path).base == moved


@pytest.mark.parametrize("content", [b"", b"[]", b"{" * 10**5, b"\xff", b'{"format":1,"format":1}'])
def test_a_manifest_that_is_not_json_is_refused(store, content):
    for name in ("store.json", "store.json.bak"):
        (store.path / name).write_bytes(content)
    with pytest.raises(StoreDamagedError):
        Store.open(store.path)


def test_native_windows_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UsageError, match="Windows is not supported; .*WSL"):
        Store.open(tmp_path)
    with pytest.raises(UsageError, match="Windows is not supported; .*WSL"):
        new_store(tmp_path / "s")


def test_the_default_path_is_the_environment_variable_or_the_folder_of_user_data(monkeypatch, tmp_path):
    monkeypatch.setenv("CNSCTL_STORE", str(tmp_path))
    assert default_path() == tmp_path
    monkeypatch.setenv("CNSCTL_STORE", "")
    assert default_path().name == "cnsctl"


# reading


def test_concepts_are_listed_in_training_order_with_all_fields(store):
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


def test_a_snapshot_never_changes_and_the_next_one_is_current(store):
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
    assert len(read) == 1, "the transaction uses the catalogue that was read"
    store.concept("rex"), store.concept("rex")
    assert len(read) == 2


def test_a_transaction_reads_the_catalogue_even_if_its_status_is_unchanged(store, monkeypatch):
    """File systems may give a new version the inode, size and time of the previous one."""
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


def test_an_unknown_concept_is_reported_with_the_nearest_names(store):
    with pytest.raises(ConceptNotFoundError) as empty:
        store.concept("dgo")
    assert (empty.value.reason, empty.value.facts["near"]) == ("empty-store", [])
    add(store, "dog")
    with pytest.raises(ConceptNotFoundError, match="'dgo'") as caught:
        store.concept("dgo")
    assert (caught.value.reason, caught.value.facts["near"]) == ("concept-missing", ["dog"])
    assert caught.value.exit_status == 4
    with pytest.raises(ConceptNotFoundError) as far:
        store.concept("zzzzzz")
    assert (far.value.reason, far.value.facts["near"]) == ("concept-missing", [])


def test_overlaps_are_counted_from_the_deltas_on_request(store):
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


def test_a_missing_or_truncated_delta_is_detected_without_reading_it(store):
    record = add(store, "dog")
    path = store.path / "blobs" / record["delta"]
    assert not store.is_damaged(record)
    path.write_bytes(path.read_bytes()[:-1])
    assert store.is_damaged(record)
    path.unlink()
    assert store.is_damaged(record)


def test_a_damaged_blob_is_reported_and_the_other_blobs_are_readable(store):
    add(store, "dog", 0)
    add(store, "cat", 1)
    record = store.concept("dog")
    path = store.path / "blobs" / record["delta"]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreDamagedError, match=record["delta"]):
        store.delta(record)
    assert same_delta(store.delta(store.concept("cat")), make_delta(1))


def test_a_delta_of_another_base_model_is_refused(store):
    record = add(store, "dog")
    manifest = manifest_of(store.path)
    manifest["base"]["fingerprint"] = "e" * 64
    write_manifest(store.path, manifest)
    with pytest.raises(StoreDamagedError, match="delta of 'dog' was trained on another base model: ffff"):
        Store.open(store.path).delta(record)


def test_two_hundred_concepts_are_listed_from_the_catalogue_alone(store):
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


def test_changing_a_delta_in_memory_does_not_change_the_store(store):
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
