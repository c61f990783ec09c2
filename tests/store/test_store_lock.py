"""Rules of locks, with processes."""

import json
import os
import signal
import subprocess
import time
from contextlib import ExitStack

import pytest
from faults import Fault
from store_samples import start

from cnsctl.errors import DiskError, StoreLockedError
from cnsctl.store.lock import locked

HOLD = """
    import sys, time
    from pathlib import Path
    from cnsctl.store.lock import locked
    with locked(Path(sys.argv[1]), what="add dog"):
        print("held", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until a line is written to it."""
    child = start(HOLD, tmp_path / "lock", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.communicate()


def assert_refused(path, match=None):
    with pytest.raises(StoreLockedError, match=match) as caught, locked(path, what="b"):
        pass
    return caught


def test_a_held_lock_is_refused_with_its_holder_work_and_age(tmp_path, holder):
    with pytest.raises(StoreLockedError) as caught, locked(tmp_path / "lock", what="rm dog"):
        pass
    assert f"process {holder.pid} on {os.uname().nodename} (add dog, for " in caught.value.what
    assert str(tmp_path) in caught.value.what
    assert caught.value.hint
    assert caught.value.exit_status == 5


def test_a_refused_process_does_not_change_the_note_of_the_holder(tmp_path, holder):
    before = (tmp_path / "lock").read_bytes()
    with pytest.raises(StoreLockedError), locked(tmp_path / "lock", what="rm dog"):
        pass
    assert json.loads(before)["pid"] == holder.pid
    assert (tmp_path / "lock").read_bytes() == before


def test_the_lock_of_a_killed_holder_is_free(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "lock", what="rm dog"):
        assert json.loads((tmp_path / "lock").read_bytes())["pid"] == os.getpid()


def test_a_waiter_gets_the_lock_when_its_holder_ends(tmp_path, holder):
    holder.stdin.write("\n")
    holder.stdin.flush()
    with locked(tmp_path / "lock", what="rm dog", wait_s=60):
        pass


def test_two_holders_in_one_process_exclude_each_other_too(tmp_path):
    with locked(tmp_path / "lock", what="a"), pytest.raises(StoreLockedError), locked(tmp_path / "lock", what="b"):
        pass
    with locked(tmp_path / "lock", what="b"):
        pass


def test_a_lock_ends_with_its_block_even_when_the_block_fails(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "lock", what="a"):
        raise KeyError
    with locked(tmp_path / "lock", what="b"):
        pass


def test_a_lock_on_a_removed_file_is_not_the_lock(tmp_path, monkeypatch):
    """A holder may remove the file: a process that opened it before and one that makes a new file exclude each other."""
    path, opened = tmp_path / "lock", os.open

    def overtaken(*args):
        fd = opened(*args)
        monkeypatch.setattr(os, "open", opened)
        path.unlink()
        held.enter_context(locked(path, what="second"))
        return fd

    with ExitStack() as held:
        monkeypatch.setattr(os, "open", overtaken)
        assert_refused(path, match="second")


def test_a_symbolic_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(DiskError, match="symbolic link"), locked(tmp_path / "lock", what="a"):
        pass
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{",
        b"[" * 4000,
        b'{"pid":"x","what":"a","since":0,"host":"h"}',
        b'{"pid":1e999,"what":"a","since":0,"host":"h"}',
    ],
)
def test_a_damaged_note_removes_only_the_details(tmp_path, note):
    with locked(tmp_path / "lock", what="a"):
        (tmp_path / "lock").write_bytes(note)
        assert_refused(tmp_path / "lock", match="another process")


def test_control_characters_of_a_note_do_not_reach_the_terminal(tmp_path):
    with locked(tmp_path / "lock", what="add \x1b[2J"):
        caught = assert_refused(tmp_path / "lock")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("age", "words"), [(5, "5 s"), (600, "10 min"), (7200, "2 h"), (-99, "an unknown time")])
def test_the_age_of_a_lock_has_a_readable_unit(tmp_path, monkeypatch, age, words):
    now = time.time()
    with locked(tmp_path / "lock", what="a"):
        note = json.loads((tmp_path / "lock").read_bytes()) | {"since": now - age}
        (tmp_path / "lock").write_text(json.dumps(note))
        monkeypatch.setattr(time, "time", lambda: now)
        assert_refused(tmp_path / "lock", match=f"for {words}")


def test_a_full_disk_does_not_break_a_lock(tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError(28, "full")

    monkeypatch.setattr(os, "pwrite", fail)
    with locked(tmp_path / "lock", what="a"):
        assert_refused(tmp_path / "lock", match="another process")


@pytest.mark.parametrize("call", ["flock", "ftruncate"])
def test_ctrl_c_while_a_lock_is_taken_or_given_back_frees_it(tmp_path, monkeypatch, call):
    """A notebook goes on after it."""
    with monkeypatch.context() as patch:
        Fault(patch, 1 if call == "flock" else 2, KeyboardInterrupt, calls=(call,))
        with pytest.raises(KeyboardInterrupt), locked(tmp_path / "lock", what="a"):
            pass
    with locked(tmp_path / "lock", what="b"):
        pass
