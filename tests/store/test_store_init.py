"""A store is created whole or not at all: after any failure the same command succeeds and leaves no other files."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from faults import Fault, Killed
from store_samples import add, assert_sound, names_in, new_store

from cnsctl.errors import CnsctlError, StoreNotFoundError, UsageError
from cnsctl.store import Store
from cnsctl.store.files import remove_unfinished
from cnsctl.store.lock import locked

FILES = ["blobs", "catalogue.json", "lock", "names", "store.json", "store.json.bak"]


@pytest.mark.parametrize("error", [errno.ENOSPC, KeyboardInterrupt, Killed])
@pytest.mark.parametrize("place", ["a new folder", "an empty folder"])
def test_after_any_failing_call_the_same_command_succeeds(tmp_path, monkeypatch, place, error):
    """Until then the store is not found, and not reported as damaged."""
    n_failed, n_made = 0, 0
    for n in range(1, 400):
        parent = tmp_path / str(n)
        path = parent / "s"
        (path if place == "an empty folder" else parent).mkdir(parents=True)
        with monkeypatch.context() as patch:
            fault = Fault(patch, n, error)
            try:
                made = new_store(path)
            except (CnsctlError, KeyboardInterrupt, Killed):
                made = None
        if not fault.fired:
            assert made is not None
            break
        if made is None and not (path / "store.json").exists():
            n_failed += 1
            with pytest.raises(StoreNotFoundError):
                Store.open(path)
            new_store(path)
        else:  # it was created; the failure came later
            n_made += 1
            if made is None:
                with pytest.raises(UsageError, match="already"):
                    new_store(path)
        assert Store.open(path).concepts() == ()
        add(Store.open(path), "dog")
        assert assert_sound(path) == ["dog"]
        assert names_in(parent) == ["s"]
        assert [name for name in names_in(path) if name not in (*FILES, "catalogue.json.bak", "index")] == []
    else:
        pytest.fail("the fault fired every time")
    assert n_failed > 10
    assert n_made >= 1


@pytest.mark.parametrize("place", ["a new folder", "an empty folder"])
def test_a_failing_last_sync_is_a_warning_because_the_store_exists(tmp_path, monkeypatch, place):
    path = tmp_path / "s"
    if place == "an empty folder":
        path.mkdir()
    rename, fsync = os.rename, os.fsync

    def renamed(source, target):
        rename(source, target)
        if (path / "store.json").exists():
            monkeypatch.setattr(os, "fsync", fail)

    def fail(_fd):
        monkeypatch.setattr(os, "fsync", fsync)
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(os, "rename", renamed)
    store = new_store(path)
    (warning,) = store.warnings
    assert "a power cut may undo it" in warning
    assert assert_sound(path) == []


def test_killed_inits_are_cleaned_up_by_the_next_one_in_the_same_folder(tmp_path):
    """Also if they were to create another store; folders of other programs, and of running processes, are kept."""
    killed = [tmp_path / f".tmp-{name}-999-0123456789ab" for name in ("s", "t", "u")]
    theirs = [tmp_path / ".tmp-s", tmp_path / ".tmp-x-999-0123456789ab", tmp_path / ".tmp-y-999-0123456789ab"]
    for folder in (*killed, *theirs):
        (folder / "base").mkdir(parents=True)
        (folder / "lock").touch()
    (killed[2] / "base").rmdir()
    (killed[2] / "lock").unlink()
    (theirs[1] / "mine").touch()
    with locked(theirs[2] / "lock", what="init"):
        new_store(tmp_path / "s")
    assert names_in(tmp_path) == sorted([*(folder.name for folder in theirs), "s"])


def test_a_killed_init_is_cleaned_up_after_another_one_succeeded(tmp_path):
    new_store(tmp_path / "s")
    (tmp_path / ".tmp-s-999-0123456789ab").mkdir()
    with pytest.raises(UsageError, match="already"):
        new_store(tmp_path / "s")
    assert names_in(tmp_path) == ["s"]


def test_an_init_that_is_running_is_not_cleaned_up(tmp_path, monkeypatch):
    """Its temporary folder is locked as soon as it exists."""
    rename, seen = os.rename, []

    def late(source, target):
        monkeypatch.setattr(os, "rename", rename)
        new_store(tmp_path / "s")
        seen.append(Path(source).is_dir())
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(UsageError, match="already"):
        new_store(tmp_path / "s")
    assert seen == [True]
    assert names_in(tmp_path) == ["s"]


def _make(path):
    try:
        new_store(path)
    except UsageError:
        os._exit(2)
    os._exit(0)


@pytest.mark.parametrize("is_there", [False, True])
def test_of_several_processes_that_create_a_store_at_once_one_succeeds(tmp_path, is_there):
    path = tmp_path / "s"
    if is_there:
        path.mkdir()
    fork = multiprocessing.get_context("fork")
    makers = [fork.Process(target=_make, args=(path,)) for _ in range(6)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert sorted(maker.exitcode for maker in makers) == [0, 2, 2, 2, 2, 2]
    assert assert_sound(path) == []
    assert names_in(tmp_path) == ["s"]


def test_a_store_without_its_store_json_is_damaged_and_not_overwritten(tmp_path):
    """It resembles a killed init, but has no temporary folder."""
    store = new_store(tmp_path / "s")
    add(store, "dog")
    for name in ("store.json", "store.json.bak"):
        (store.path / name).unlink()
    before = names_in(store.path)
    with pytest.raises(CnsctlError, match=r"store.json is missing"):
        Store.open(store.path)
    with pytest.raises(UsageError, match="not empty"):
        new_store(store.path)
    assert names_in(store.path) == before


def test_a_user_s_files_beside_a_killed_init_are_not_removed(tmp_path):
    """Only parts that are not in the temporary folder were moved out of it."""
    path = tmp_path / "s"
    temp = path / ".tmp-s-999-0123456789ab"
    temp.mkdir(parents=True)
    for part in ("store.json", "base"):
        (temp / part).write_bytes(b"")
    (path / "base").mkdir()
    (path / "base" / "mine").write_bytes(b"mine")
    with pytest.raises(UsageError, match="not empty"):
        new_store(path)
    assert (path / "base" / "mine").read_bytes() == b"mine"


def test_a_signal_while_a_store_is_moved_into_place_waits_and_notes_that_it_exists(tmp_path, monkeypatch):
    class Ended(KeyboardInterrupt):
        pass

    def end(*_):
        raise Ended

    rename = os.rename

    def and_signal(source, target):
        os.kill(os.getpid(), signal.SIGTERM)
        rename(source, target)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", and_signal)
            with pytest.raises(Ended) as caught:
                new_store(tmp_path / "s")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.__notes__ == ["the store was created"]
    assert assert_sound(tmp_path / "s") == []


def test_the_next_writer_removes_temporary_folders_in_a_store(tmp_path):
    """An init that was killed right after it moved the last part leaves one."""
    store = new_store(tmp_path / "s")
    (store.path / ".tmp-s-999-0123456789ab" / "deep").mkdir(parents=True)
    remove_unfinished(store.path)
    assert names_in(store.path) == FILES
