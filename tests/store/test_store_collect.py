"""Rules of gc, rm --purge and undo: what is kept, what is gone, and that all of them work on a full disk."""

import errno
import os
import subprocess
import time

import pytest
from faults import Killed
from store_samples import add, assert_sound, make_delta, names_in, new_store, same_delta

from cnsctl.app import concepts
from cnsctl.app.collect import collect
from cnsctl.app.undo import undo
from cnsctl.errors import DiskError, NameTakenError, StoreDamagedError, StoreLockedError, UsageError
from cnsctl.store import Store
from cnsctl.store.records import blobs_of


@pytest.fixture
def store(tmp_path):
    made = new_store(tmp_path / "s")
    add(made, "dog", 0)
    add(made, "cat", 1)
    return made


def result_of(work):
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


def remove(store, *names, **options):
    return result_of(concepts.remove(store, names, **options))


def rename(store, old, new):
    return result_of(concepts.rename(store, old, new))


def age(store, seconds=7200):
    for name in ("blobs", "index", "damaged"):
        for path in (store.path / name).glob("*"):
            os.utime(path, (time.time() - seconds,) * 2)


def files(store, record):
    return {sha for sha in blobs_of(record) if (store.path / "blobs" / sha).exists()}


# gc


def test_gc_keeps_what_undo_needs_and_deletes_it_after_the_next_change(store):
    dog = store.concept("dog")
    remove(store, "dog")
    age(store)
    found = collect(store)
    assert (found.deleted, found.kept_for_undo) == (
        0,
        5,
    )  # its delta, probe record and image, and two files of the index
    assert files(store, dog) == set(blobs_of(dog))
    rename(store, "cat", "lion")
    age(store)
    dry = collect(store, dry_run=True)
    assert dry.dry_run
    assert files(store, dog) == set(blobs_of(dog))
    found = collect(store)
    assert found.deleted == dry.deleted >= 3
    assert files(store, dog) == set(blobs_of(dog)) & set(blobs_of(store.concept("lion")))
    assert assert_sound(store.path) == ["lion"]


def test_gc_keeps_young_files_and_files_that_are_not_of_this_program(store):
    (store.path / "blobs" / "notes.txt").write_bytes(b"mine")
    (store.path / "blobs" / ("a" * 64)).write_bytes(b"of a commit in progress")
    found = collect(store)
    assert (found.deleted, found.young) == (0, 1)
    age(store)
    assert collect(store).deleted == 1
    assert (store.path / "blobs" / "notes.txt").exists()


def test_gc_keeps_what_a_training_state_names(store):
    with store.work.reserve("hat"):
        (store.path / "blobs" / ("a" * 64)).write_bytes(b"about to be committed")
        store.work.will_commit("hat", "a" * 64)
        age(store)
        assert collect(store).deleted == 0


@pytest.mark.parametrize("name", ["catalogue.json", "catalogue.json.bak"])
def test_gc_deletes_nothing_if_a_generation_cannot_be_read(store, name):
    remove(store, "dog")
    age(store)
    (store.path / name).write_bytes(b"{")
    before = names_in(store.path / "blobs")
    with pytest.raises(StoreDamagedError):
        collect(store)
    assert names_in(store.path / "blobs") == before


def test_gc_waits_for_a_writer(store):
    other = Store.open(store.path, wait_s=0)
    with store.locked("add"), pytest.raises(StoreLockedError):
        collect(other)


# rm --purge


def everything(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_promise_8_after_rm_purge_no_byte_of_the_images_is_in_the_store(store):
    """Neither those of the concept, nor those of versions that it replaced before."""
    add(store, "dog", 5, replace=True)
    (store.path / "damaged").mkdir()
    (store.path / "damaged" / store.concept("dog")["delta"]).write_bytes(b"x")
    remove(store, "dog", purge=True)
    assert b"png of dog" not in everything(store.path)
    assert b"probe of dog" not in everything(store.path)
    assert names_in(store.path / "blobs") == sorted(set(blobs_of(store.concept("cat"))))
    assert names_in(store.path / "damaged") == []
    assert assert_sound(store.path) == ["cat"]
    assert (store.path / "catalogue.json.bak").read_bytes() == (store.path / "catalogue.json").read_bytes()
    with pytest.raises(UsageError, match="nothing to undo"):
        result_of(undo(store))


def test_purge_keeps_what_another_concept_uses(store):
    shared = set(blobs_of(store.concept("dog"))) & set(blobs_of(store.concept("cat")))
    assert shared
    remove(store, "dog", purge=True)
    assert files(store, store.concept("cat")) >= shared


def test_files_that_could_not_be_deleted_are_a_warning_and_gc_deletes_them(store, monkeypatch):
    unlink = os.unlink

    def fail(path, *args, **kwargs):
        if "/blobs/" in str(path):
            raise OSError(errno.EIO, "x")
        return unlink(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        work = concepts.remove(store, ["dog"], purge=True)
        texts = []
        with pytest.raises(StopIteration):
            while True:
                texts.append(next(work).text)
    assert any("may remain until cnsctl gc deletes them" in text for text in texts)
    assert b"png of dog" in everything(store.path)
    rename(store, "cat", "lion")
    age(store)
    collect(store)
    assert b"png of dog" not in everything(store.path)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 KB; needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.call(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], stderr=-3) != 0:
        pytest.skip("a small disk needs the right to mount")
    yield disk
    subprocess.check_call(["umount", "-l", disk])


def fill(disk):
    with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
        while True:
            filler.write(b"x" * 512)


def test_promise_3_on_a_full_disk_gc_and_rm_purge_free_space(small_disk):
    store = new_store(small_disk / "s")
    for i, name in enumerate(("dog", "cat", "hat", "cap")):
        add(store, name, i)
    remove(store, "cap")
    rename(store, "hat", "top")
    age(store)
    fill(small_disk)
    with pytest.raises(DiskError, match="full"):
        add(store, "new", 9)
    assert collect(store).deleted >= 2
    assert os.statvfs(small_disk).f_bavail > 0
    fill(small_disk)
    remove(store, "dog", purge=True)
    assert [r["name"] for r in store.concepts()] == ["cat", "top"]
    assert os.statvfs(small_disk).f_bavail > 0
    (small_disk / "filler").unlink()
    add(store, "new", 9)
    assert assert_sound(store.path) == ["cat", "top", "new"]


# undo


def test_undo_takes_back_each_kind_of_change_and_a_second_one_makes_it_again(store):
    def names():
        return assert_sound(store.path)

    remove(store, "dog")
    assert result_of(undo(store)).restored == ("dog",)
    assert names() == ["dog", "cat"]
    assert same_delta(store.delta(store.concept("dog")), make_delta(0))
    assert result_of(undo(store)).removed == ("dog",)
    assert names() == ["cat"]
    rename(store, "cat", "lion")
    assert result_of(undo(store)).renamed == {"lion": "cat"}
    assert names() == ["cat"]
    add(store, "cat", 7, replace=True)
    assert result_of(undo(store)).restored == ("cat",)
    assert same_delta(store.delta(store.concept("cat")), make_delta(1))
    assert names() == ["cat"]
    add(store, "new", 8)
    assert names() == ["cat", "new"]


@pytest.mark.parametrize("after", [False, True])
def test_a_change_that_is_killed_at_its_commit_does_not_cost_what_undo_gives_back(store, monkeypatch, after):
    """Neither right before the catalogue is replaced nor right after; gc keeps the files too."""
    remove(store, "dog")
    replace = os.replace

    def killed(source, target):
        if str(target).endswith("catalogue.json"):
            if after:
                replace(source, target)
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(Killed):
            rename(store, "cat", "lion")
    again = Store.open(store.path)
    age(again)
    collect(again)
    result_of(undo(again))
    assert assert_sound(store.path) == (["cat"] if after else ["dog", "cat"])
    assert names_in(store.path) == sorted({*names_in(store.path)} - {"catalogue.json.old"})


def test_undo_is_a_new_generation_so_that_training_in_merged_mode_notices_it(store):
    before = store.generation()
    remove(store, "dog")
    result_of(undo(store))
    assert store.generation() == before + 2


def test_undo_is_refused_if_there_is_nothing_or_a_file_is_gone_or_the_name_is_in_training(tmp_path, store):
    with pytest.raises(UsageError, match="nothing to undo"):
        result_of(undo(new_store(tmp_path / "new")))
    dog = store.concept("dog")
    remove(store, "dog")
    with Store.open(store.path).work.reserve("dog"), pytest.raises(StoreLockedError, match="in training"):
        result_of(undo(store))
    with store.work.reserve("dog") as work:
        (work / "state.safetensors").write_bytes(b"half")
    with pytest.raises(NameTakenError):
        result_of(undo(store))
    store.work.discard("dog")
    (store.path / "blobs" / dog["delta"]).unlink()
    before = (store.path / "catalogue.json").read_bytes()
    with pytest.raises(StoreDamagedError, match="missing"):
        result_of(undo(store))
    assert (store.path / "catalogue.json").read_bytes() == before


# log


def test_every_change_is_logged_in_order_with_its_duration(store):
    for i in range(12):
        rename(store, f"cat{i - 1}" if i else "cat", f"cat{i}")
    remove(store, "dog")
    result_of(undo(store))
    runs = Store.open(store.path).runs()
    assert [(run["verb"], run["name"], run["outcome"]) for run in runs] == [
        ("add", "dog", "kept"),
        ("add", "cat", "kept"),
        *(("mv", f"cat{i}", f"was cat{i - 1}" if i else "was cat") for i in range(12)),
        ("rm", "dog", "removed"),
        ("undo", "dog", "restored"),
    ]
    assert all(run["seconds"] >= 0 for run in runs)
