"""Two processes that change one store: nothing acknowledged is lost, whatever happens to the lock; waiting is fair."""

import os
import subprocess
import time

import pytest
from store_samples import add, assert_sound, finish, make_delta, new_store, stage, start

from cnsctl.errors import NameTakenError, StoreLockedError
from cnsctl.store import Store
from cnsctl.store.files import remove_abandoned, write_atomic
from cnsctl.store.lock import holder_of, locked


@pytest.fixture
def store(tmp_path):
    made = new_store(tmp_path / "s")
    add(made, "dog")
    return made


def test_a_writer_whose_lock_was_removed_does_not_overwrite_another_one(store):
    first, second = Store.open(store.path), Store.open(store.path)
    with pytest.raises(StoreLockedError, match="another process has changed the store"), first.transaction("a") as tx:
        stage(tx, "cat", make_delta(1))
        (store.path / "lock").unlink()
        add(second, "hat", 2)
    assert assert_sound(store.path) == ["dog", "hat"]


def test_a_writer_without_its_lock_changes_nothing_even_if_it_is_alone(store):
    with pytest.raises(StoreLockedError), store.transaction("a") as tx:
        stage(tx, "cat", make_delta(1))
        (store.path / "lock").unlink()
    assert assert_sound(store.path) == ["dog"]
    add(store, "cat", 1)
    assert assert_sound(store.path) == ["dog", "cat"]


def test_a_catalogue_that_was_replaced_in_between_is_not_overwritten(store):
    """As on a disk where every process gets every lock."""
    with pytest.raises(StoreLockedError), store.transaction("a") as tx:
        stage(tx, "cat", make_delta(1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cnsctl.store.store.locked", lambda *_a, **_k: locked(store.path / "other", what="b"))
            add(Store.open(store.path), "hat", 2)
    assert assert_sound(store.path) == ["dog", "hat"]


BUSY = """
    import sys, time
    from pathlib import Path
    from cnsctl.store.lock import locked
    path, until = Path(sys.argv[1]), time.monotonic() + 60
    print("busy", flush=True)
    while time.monotonic() < until and not (path.parent / "stop").exists():
        with locked(path, what="again", wait_s=60):
            time.sleep(0.05)
"""


def test_a_process_that_takes_the_lock_again_and_again_does_not_keep_the_others_out(tmp_path):
    """Without a queue, a waiting process would have to ask in the moment between two turns."""
    busy = [start(BUSY, tmp_path / "lock", stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        for child in busy:
            assert child.stdout.readline() == "busy\n"
        for _ in range(3):
            with locked(tmp_path / "lock", what="mine", wait_s=60):
                pass
    finally:
        (tmp_path / "stop").touch()
        for child in busy:
            finish(child)


def test_waiting_ends_after_the_given_time(store):
    patient = Store.open(store.path, wait_s=0.3)
    with store.locked("b"):
        began = time.monotonic()
        with pytest.raises(StoreLockedError), patient.transaction("a"):
            pass
        assert time.monotonic() - began >= 0.3


def test_the_holder_of_a_lock_can_be_named_without_taking_it(store):
    assert holder_of(store.path / "lock") is None
    with store.locked("rm dog"):
        holder = holder_of(store.path / "lock")
        assert f"process {os.getpid()} on {os.uname().nodename} (rm dog" in str(holder)
    assert holder_of(store.path / "lock") is None


# names in training


def change(store, verb):
    with store.transaction(verb) as tx:
        if verb == "mv":
            tx.rename("dog", "bird")
        elif verb == "import":
            stage(tx, "bird", make_delta(1))
        else:
            tx.rename("bird", "owl")


@pytest.mark.parametrize("verb", ["mv", "import", "mv of it"])
def test_a_name_in_training_is_reserved_for_every_command(store, verb):
    if verb == "mv of it":  # it is being replaced
        add(store, "bird", 3)
    other, before = Store.open(store.path), (store.path / "catalogue.json").read_bytes()
    with other.work.reserve("bird"), pytest.raises(StoreLockedError, match="'bird' is in training"):
        change(store, verb)
    assert (store.path / "catalogue.json").read_bytes() == before
    change(store, verb)


@pytest.mark.parametrize("verb", ["mv", "import"])
def test_the_name_of_an_interrupted_run_is_not_taken(store, verb):
    with store.work.reserve("bird") as work:
        (work / "state.safetensors").write_bytes(b"half")
    with pytest.raises(NameTakenError, match="interrupted training run"):
        change(store, verb)
    assert store.work.unfinished() == ["bird"]


def test_the_process_that_trains_commits_under_its_name(store):
    with store.work.reserve("bird") as work:
        (work / "state.safetensors").write_bytes(b"done")
        with store.transaction("add") as tx:
            stage(tx, "bird", make_delta(1))
        store.work.discard("bird")
    assert assert_sound(store.path) == ["dog", "bird"]


def test_an_interrupted_run_can_get_another_name(store):
    with store.work.reserve("bird") as work:
        (work / "state.safetensors").write_bytes(b"half")
    store.work.rename("bird", "owl")
    assert store.work.unfinished() == ["owl"]
    assert (store.path / "work" / "owl" / "state.safetensors").read_bytes() == b"half"
    assert not (store.path / "work" / "bird").exists()


# temporary files of killed writers


def test_temporary_files_of_killed_writers_are_removed_and_those_of_running_ones_are_kept(tmp_path):
    old = time.time() - 60
    killed = tmp_path / ".tmp-dog-7.png-999-0123456789ab"
    theirs = [tmp_path / name for name in (".tmp-dog.png", "tmp-dog-999-0123456789ab", "dog-7.png")]
    young = tmp_path / ".tmp-cat-7.png-999-0123456789ab"
    for path in (killed, *theirs, young):
        path.touch()
    for path in (killed, *theirs):
        os.utime(path, (old, old))
    seen = []

    def while_writing():
        (mine,) = set(tmp_path.glob(".tmp-*")) - {killed, young, *theirs}
        os.utime(mine, (old, old))
        remove_abandoned(tmp_path)
        seen.append(mine.exists())

    write_atomic(tmp_path / "new.png", b"png", before=while_writing)
    assert seen == [True], "its writer holds a lock"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["new.png", young.name, *(p.name for p in theirs)])
