"""The old state or the new one: disks that fail at any call, fill up, or are read-only."""

import errno
import os
import shutil
import subprocess
from contextlib import suppress

import pytest
from faults import Fault, Killed
from store_samples import add, assert_sound, finish, make_delta, new_store, stage, start

from cnsctl.errors import DiskError
from cnsctl.store import Store


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    store = new_store(tmp_path_factory.mktemp("template") / "s")
    add(store, "dog", 0)
    return store.path


def change(store):
    """The change under test: old state dog, new state cat."""
    with store.transaction("change") as tx:
        stage(tx, "cat", make_delta(1))
        tx.remove("dog")


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, Killed], ids=["EIO", "ENOSPC", "killed"])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_after_any_failing_call_the_store_is_in_the_old_or_the_new_state(tmp_path, monkeypatch, template, call, error):
    outcomes = []
    for n in range(1, 200):
        path = tmp_path / str(n)
        shutil.copytree(template, path)
        store = Store.open(path)
        succeeded = False
        with monkeypatch.context() as patch:
            fault = Fault(patch, n, error, calls=(call,))
            with suppress(Killed if error is Killed else DiskError):
                change(store)
                succeeded = True
        names = assert_sound(path)
        assert names in (["dog"], ["cat"])
        assert names == ["cat"] or not succeeded, "a change that was reported as saved is kept"
        if not succeeded:
            outcomes.append(names[0])
        with store.transaction("sweep"):
            pass
        assert not list(path.rglob(".tmp-*"))
        shutil.rmtree(path)
        if not fault.fired:
            assert succeeded
            break
    else:
        pytest.fail("the fault fired every time")
    assert outcomes == sorted(outcomes, reverse=True), "one commit point: all is old before it and new after it"
    assert outcomes.count("dog") >= 4, "the fault happened before the commit"


def test_after_any_fault_the_same_command_again_succeeds(tmp_path, monkeypatch, template):
    path = tmp_path / "s"
    shutil.copytree(template, path)
    for n in (1, 2, 3):
        with monkeypatch.context() as patch:
            Fault(patch, n, Killed, calls=("replace",))
            with pytest.raises(Killed):
                change(Store.open(path))
        assert assert_sound(path) == ["dog"]
    change(Store.open(path))
    assert assert_sound(path) == ["cat"]


KILL_LOOP = """
    import os, random, signal, sys, time
    from pathlib import Path
    from store_samples import add, assert_sound, new_store
    from cnsctl.store import Store

    def live(path, pipe, round_):
        for n in range(1000):
            add(Store.open(path), f"c{round_}-{n}", n)
            os.write(pipe, f"+c{round_}-{n}\\n".encode())
            if n % 3 == 2:
                os.write(pipe, f"?c{round_}-{n}\\n".encode())
                with Store.open(path).transaction("rm") as tx:
                    tx.remove(f"c{round_}-{n}")
                os.write(pipe, f"-c{round_}-{n}\\n".encode())

    path, rng = Path(sys.argv[1]), random.Random(0)
    new_store(path)
    for round_ in range(int(sys.argv[2])):
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(read)
            live(path, write, round_)
        os.close(write)
        log = os.read(read, 1)  # the first commit is done
        time.sleep(rng.random() * 0.05)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while piece := os.read(read, 1 << 16):
            log += piece
        os.close(read)
        last = {line[1:]: line[0] for line in log.decode().splitlines()}
        found = set(assert_sound(path))
        assert {name for name, sign in last.items() if sign == "+"} <= found, (last, found)
        assert not {name for name, sign in last.items() if sign == "-"} & found, (last, found)
        assert len(found - set(last)) <= 1, "at most the commit in progress"
        with Store.open(path).transaction("clear") as tx:
            for name in found:
                tx.remove(name)
        print("round", len(last))
"""


def test_a_process_killed_at_any_time_leaves_all_reported_changes_and_a_sound_store(tmp_path):
    child = start(KILL_LOOP, tmp_path / "s", 12, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert finish(child).count("round") == 12


WRITER = """
    import sys
    from pathlib import Path
    from store_samples import add
    from cnsctl.store import Store
    for n in range(8):
        add(Store.open(Path(sys.argv[1])), f"w{sys.argv[2]}-{n}", int(sys.argv[2]) * 100 + n)
"""


def test_promise_2_several_writers_lose_nothing_and_readers_get_no_third_state(tmp_path):
    store = new_store(tmp_path / "s")
    writers = [start(WRITER, store.path, i, stderr=subprocess.PIPE) for i in range(3)]
    n_seen = 0
    while any(w.poll() is None for w in writers):
        records = store.concepts()
        assert len(records) >= n_seen
        n_seen = len(records)
        for record in records[-2:]:
            assert store.delta(record).n_neurons == record["neurons"]
    for writer in writers:
        finish(writer)
    assert sorted(assert_sound(store.path)) == sorted(f"w{i}-{n}" for i in range(3) for n in range(8))
    assert len(store.runs()) == store.generation() == 24


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of 400 KB; needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.call(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], stderr=-3) != 0:
        pytest.skip("a small disk needs the right to mount")
    yield disk
    subprocess.check_call(["umount", disk])


def test_a_disk_that_fills_up_at_any_byte_leaves_the_old_or_the_new_state(tmpfs):
    new_store(tmpfs / "s")
    add(Store.open(tmpfs / "s"), "dog", 0)
    shutil.copytree(tmpfs / "s", tmpfs / "old")
    outcomes = set()
    for n_pages in range(24):
        free = os.statvfs(tmpfs).f_bavail * os.statvfs(tmpfs).f_frsize
        (tmpfs / "filler").write_bytes(b"x" * (free - n_pages * 4096))
        try:
            change(Store.open(tmpfs / "s"))
            outcomes.add("succeeded")
        except DiskError as err:
            outcomes.add(err.what.split(": ")[1])
        names = assert_sound(tmpfs / "s")
        assert names in (["dog"], ["cat"])
        (tmpfs / "filler").unlink()
        shutil.rmtree(tmpfs / "s")
        shutil.copytree(tmpfs / "old", tmpfs / "s")
    assert outcomes == {"the disk is full", "succeeded"}


def test_a_store_on_a_read_only_disk_is_read_and_not_written(tmpfs):
    add(new_store(tmpfs / "s"), "dog", 0)
    subprocess.check_call(["mount", "-o", "remount,ro", tmpfs])
    assert assert_sound(tmpfs / "s") == ["dog"]
    store = Store.open(tmpfs / "s")
    assert store.cached("x") is None
    store.cache("x", b"")
    with pytest.raises(DiskError, match="read-only"):
        add(store, "cat", 1)
    with pytest.raises(DiskError, match="read-only"), store.work.reserve("cat"):
        pass
    with pytest.raises(DiskError, match="read-only"):
        new_store(tmpfs / "t")
