"""A command that has saved a change reports it and exits with 0, whatever fails afterwards."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal

import pytest
from commands import at, cnsctl
from faults import Fault, arm_after_commit

from cnsctl.app import session
from cnsctl.store import Store


@pytest.fixture
def quick(tiny, unmeasured, monkeypatch):
    """`add` without loading the base model and without measuring."""

    def start(store, *_args, **_options):
        yield from ()
        return session.Session(store=store, base=tiny, device=tiny.device, dtype="fp32")

    monkeypatch.setattr(session, "start", start)


def line_of(verb, images):
    return {
        "add": ("add", "cat", images / "dog", "--class", "dog", "--steps", 2, "--batch-size", 1),
        "mv": ("mv", "dog", "rex"),
        "rm": ("rm", "dog", "hat", "-y"),
    }[verb]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("verb", "as_json"), [("add", False), ("mv", True), ("rm", False), ("rm", True)])
def test_a_failure_after_the_commit_is_a_warning_beside_the_result(
    stocked, tmp_path, images_of_two, monkeypatch, verb, as_json
):
    line = line_of(verb, images_of_two)
    with Store.open(stocked).work.reserve("hat") as work:  # for rm: of a --replace that was interrupted
        (work / "state.safetensors").write_bytes(b"half")
    warned = set()
    for n in range(1, 100):
        store = shutil.copytree(stocked, tmp_path / str(n))
        with monkeypatch.context() as patch:
            fault = Fault(patch, n, errno.EIO, armed=False)
            arm_after_commit(patch, fault)
            done = cnsctl(*line, *(["--json"] if as_json else []), *at(store))
        assert done.code == 0, (n, done.err)
        if as_json:
            result = done.lines[-1]
            assert result["format"] == 1
            assert result.get("type") in (None, "result")
            warnings = [one["text"] for one in done.lines[:-1] if one["type"] == "warning"]
            warnings += [json.loads(one)["text"] for one in done.err.splitlines()]
        else:
            assert done.out
            warnings = [one.removeprefix("warning: ") for one in done.err.splitlines() if one.startswith("warning: ")]
        assert all(text.startswith("saved, but ") for text in warnings)
        warned |= set(warnings)
        if not fault.fired:
            assert warnings == []
            break
    else:
        pytest.fail("the fault never stopped firing")
    assert any("a power cut may undo it" in text for text in warned)
    assert any("shell completion may miss it" in text for text in warned)
    assert any("cannot remove the training state" in text for text in warned) == (verb != "mv")


@pytest.mark.usefixtures("quick")
def test_training_state_that_could_not_be_removed_is_removed_by_the_next_change(stocked, images_of_two, monkeypatch):
    from cnsctl.store import work as of_work

    def fail(_folder):
        raise OSError(errno.EIO, "x")

    with monkeypatch.context() as patch:
        patch.setattr(of_work, "_clear", fail)
        done = cnsctl(*line_of("add", images_of_two), *at(stocked))
    assert (done.code, "warning: saved, but" in done.err) == (0, True)
    assert (stocked / "work" / "cat" / "state.safetensors").exists()
    assert cnsctl("ls", "--json", *at(stocked)).json["unfinished"] == []
    assert cnsctl("mv", "dog", "rex", *at(stocked)).code == 0
    assert not list((stocked / "work").iterdir())


@pytest.mark.parametrize("as_json", [False, True])
def test_a_created_store_is_not_reported_as_a_failure(package, tmp_path, monkeypatch, as_json):
    rename, fsync = os.rename, os.fsync

    def renamed(source, target):
        rename(source, target)
        monkeypatch.setattr(os, "fsync", fail)

    def fail(_fd):
        monkeypatch.setattr(os, "fsync", fsync)
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(os, "rename", renamed)
    done = cnsctl("init", *(["--json"] if as_json else []), *at(tmp_path / "s"))
    assert done.code == 0, done.err
    text = json.loads(done.err)["text"] if as_json else done.err
    assert "saved, but a power cut may undo it" in text
    assert not Store.open(tmp_path / "s").concepts()


def test_ls_does_not_find_a_store_in_a_folder_in_which_init_was_killed(tmp_path):
    temp = tmp_path / ".tmp-s-999-0123456789ab"
    temp.mkdir()
    (temp / "store.json").write_bytes(b"")
    (tmp_path / "catalogue.json").write_bytes(b"")
    assert cnsctl("ls", *at(tmp_path)).code == 10
    assert cnsctl("init", *at(tmp_path)).code == 0
    assert cnsctl("ls", *at(tmp_path)).code == 0


@pytest.mark.parametrize("as_json", [False, True])
def test_a_signal_during_a_commit_ends_the_command_after_it_and_the_message_says_that_the_change_is_saved(
    stocked, monkeypatch, as_json
):
    replace = os.replace

    def and_signal(source, target):
        if str(target).endswith("catalogue.json"):
            os.kill(os.getpid(), signal.SIGTERM)
        replace(source, target)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", and_signal)
            done = cnsctl("mv", "dog", "rex", *(["--json"] if as_json else []), *at(stocked))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (done.code, done.out) == (143, "")
    text = json.loads(done.err)["message"] if as_json else done.err
    assert "interrupted by SIGTERM; the change is saved" in text
    assert [c["name"] for c in Store.open(stocked).concepts()] == ["rex", "hat"]
