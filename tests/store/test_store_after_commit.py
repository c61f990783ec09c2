"""A committed change is reported as saved even if something fails afterwards, and a signal waits for the commit."""

import errno
import os
import shutil
import signal

import pytest
from faults import Fault, Killed, arm_after_commit
from store_samples import assert_sound, make_delta, names_in, new_store, stage

from cnsctl.errors import DiskError
from cnsctl.store import Store


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    store = new_store(tmp_path_factory.mktemp("template") / "s")
    with store.transaction("add") as tx:
        stage(tx, "dog", make_delta(0))
    return store.path


CHANGES = {
    "add": (lambda tx: stage(tx, "cat", make_delta(1)), ["dog", "cat"]),
    "rename": (lambda tx: tx.rename("dog", "rex"), ["rex"]),
    "remove": (lambda tx: tx.remove("dog"), []),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_failure_after_the_commit_is_a_warning(tmp_path, monkeypatch, template, change, error):
    make, names = CHANGES[change]
    texts = set()
    for n in range(1, 100):
        path = tmp_path / str(n)
        shutil.copytree(template, path)
        store = Store.open(path)
        with monkeypatch.context() as patch:
            fault = Fault(patch, n, error, armed=False)
            arm_after_commit(patch, fault)
            with store.transaction(change) as tx:
                make(tx)
            assert tx.names() == names
            free = tx.free()
        assert assert_sound(path) == names
        assert free == Store.open(path).free()
        if not fault.fired:
            assert store.warnings == []
            break
        texts |= set(store.warnings)
    else:
        pytest.fail("the fault fired every time")
    assert any("a power cut may undo it" in text for text in texts)
    assert any("shell completion may miss it" in text for text in texts)


def test_a_failure_before_the_commit_is_an_error_and_changes_nothing(tmp_path, monkeypatch, template):
    """Also if only the sync of another file fails, because the commit needs it."""
    failed = 0
    for n in range(1, 100):
        path = tmp_path / str(n)
        shutil.copytree(template, path)
        store = Store.open(path)
        with monkeypatch.context() as patch:
            fault = Fault(patch, n, errno.EIO, calls=("fsync",))
            try:
                with store.transaction("change") as tx:
                    stage(tx, "cat", make_delta(1))
            except DiskError:
                failed += 1
                assert store.warnings == []
                assert assert_sound(path) == ["dog"]
            else:
                assert assert_sound(path) == ["dog", "cat"]
        if not fault.fired:
            break
    assert failed >= 6


class Ended(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_a_commit_waits_for_its_end_and_notes_that_it_is_saved(
    tmp_path, monkeypatch, template, number, call
):
    path = tmp_path / "s"
    shutil.copytree(template, path)
    original, sent = getattr(os, call), []

    def and_signal(*args, **kwargs):
        if not sent and (call in ("write", "fsync") or any("catalogue.json" in str(arg) for arg in args)):
            sent.append(call)
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    def end(*_):
        raise Ended

    before = signal.signal(number, end)
    try:
        with pytest.raises(Ended) as caught, Store.open(path).transaction("mv") as tx:
            tx.rename("dog", "rex")
            monkeypatch.setattr(os, call, and_signal)
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)
        monkeypatch.undo()
    assert sent
    assert caught.value.__notes__ == ["the change is saved"]
    assert assert_sound(path) == ["rex"]


def test_training_state_is_deleted_if_the_process_was_killed_just_after_its_commit(tmp_path, monkeypatch, template):
    """The next change deletes it, and it is not listed as unfinished before that."""
    path = tmp_path / "s"
    shutil.copytree(template, path)
    store = Store.open(path)
    with pytest.raises(Killed), store.work.reserve("cat") as work:
        (work / "state").write_bytes(b"whole")
        with monkeypatch.context() as patch:
            fault = Fault(patch, 1, Killed, armed=False)
            with store.transaction("add cat") as tx:
                record = stage(tx, "cat", make_delta(1))
                store.work.will_commit("cat", record["delta"])
                arm_after_commit(patch, fault)
    assert (work / "state").exists()
    assert Store.open(path).work.unfinished() == []
    with Store.open(path).transaction("mv") as tx:
        tx.rename("dog", "rex")
    assert not work.exists()


def test_training_state_whose_commit_did_not_happen_is_kept(tmp_path, template):
    path = tmp_path / "s"
    shutil.copytree(template, path)
    store = Store.open(path)
    with store.work.reserve("cat") as work:
        (work / "state").write_bytes(b"whole")
        store.work.will_commit("cat", "0" * 64)
    with Store.open(path).transaction("mv") as tx:
        tx.rename("dog", "rex")
    assert Store.open(path).work.unfinished() == ["cat"]
    assert names_in(work) == ["lock", "state"]


def test_the_next_writer_tidies_folders_of_killed_processes_and_none_that_is_in_use(tmp_path, template):
    path = tmp_path / "s"
    shutil.copytree(template, path)
    store = Store.open(path)
    for name in ("cat", "hat", "owl"):
        (path / "work" / name).mkdir(parents=True)
        (path / "work" / name / ".tmp-state-1-aa").write_bytes(b"half of a half")
    (path / "work" / "cat" / "state").write_bytes(b"half")
    with store.work.reserve("owl") as busy:
        (busy / ".tmp-state-1-aa").write_bytes(b"being written")
        with Store.open(path).transaction("mv") as tx:
            tx.rename("dog", "rex")
        assert (busy / ".tmp-state-1-aa").exists()
        assert names_in(path / "work" / "cat") == ["lock", "state"]
        assert not (path / "work" / "hat").exists()
