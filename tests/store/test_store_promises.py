"""The promises of docs/explanation/durability.md that faults can break: every call of every short command fails in turn.

After each fault the store is in the state before or after the command, a check finds nothing, and the next command works.
"""

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
from faults import CALLS, LOCKS, Fault, Killed
from store_samples import add, assert_sound, make_delta, new_store, stage

from cnsctl.app import concepts
from cnsctl.app.check import check
from cnsctl.app.collect import collect
from cnsctl.app.undo import undo
from cnsctl.errors import CnsctlError
from cnsctl.store import Store, blobs
from cnsctl.store.records import blobs_of


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """dog and cat, after cap was removed; with an unreferenced old file."""
    store = new_store(tmp_path_factory.mktemp("promises") / "s")
    for i, name in enumerate(("dog", "cat", "cap")):
        add(store, name, i)
    run(concepts.remove(store, ["cap"]))
    orphan = blobs.put(store.path / "blobs", b"of a change that was never committed")
    os.utime(store.path / "blobs" / orphan, (0, 0))
    return store.path


def run(work):
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


def added(store):
    with store.transaction("add") as tx:
        stage(tx, "hat", make_delta(7))


COMMANDS = {
    "add": (added, ["dog", "cat", "hat"]),
    "mv": (lambda store: run(concepts.rename(store, "dog", "rex")), ["rex", "cat"]),
    "rm": (lambda store: run(concepts.remove(store, ["dog"])), ["cat"]),
    "rm --purge": (lambda store: run(concepts.remove(store, ["dog"], purge=True)), ["cat"]),
    "undo": (lambda store: run(undo(store)), ["dog", "cat", "cap"]),
    "gc": (collect, ["dog", "cat"]),
    "check --repair": (lambda store: run(check(store, repair=True, read_data=True)), ["dog", "cat"]),
}
BEFORE = ["dog", "cat"]

FAULTS = [(errno.EIO, False), (errno.ENOSPC, True), (Killed, False)]
"""An error, and whether all later calls fail, too."""


def outcome_of(command, path, patch, n, error, forever):
    """Run a command with a fault: whether the fault fired, and whether the command says that it is done."""
    try:
        store = Store.open(path)
        fault = Fault(patch, n, error, calls=(*CALLS, *LOCKS), forever=forever)
        try:
            command(store)
        except (CnsctlError, Killed):
            return fault.fired, False
        return fault.fired, True
    finally:
        patch.undo()


@pytest.mark.parametrize("verb", COMMANDS)
def test_promise_1_after_any_crash_the_store_is_in_the_state_before_or_after_the_command(
    template, tmp_path, monkeypatch, verb
):
    command, after = COMMANDS[verb]
    n_faults = 0
    for error, forever in FAULTS:
        for n in range(1, 400):
            path = shutil.copytree(template, tmp_path / "s")
            if verb == "check --repair":
                (path / "store.json.bak").write_bytes(b"{")
                index = next((path / "index").iterdir())
                index.write_bytes(index.read_bytes()[:-1])
            with monkeypatch.context() as patch:
                fired, said_done = outcome_of(command, path, patch, n, error, forever)
            names = [record["name"] for record in Store.open(path).concepts()]
            assert names in (BEFORE, after), (n, error)
            assert names == after or not said_done, "what is reported as saved is kept"
            if verb != "check --repair":
                found = run(check(Store.open(path), read_data=True))
                assert found.findings == (), (n, error)
            if verb in ("add", "rm") and n % 5 == 0:  # the next command works
                add(Store.open(path), "new", 9)
                assert assert_sound(path)[:-1] == names
                assert not list(path.rglob(".tmp-*"))
            shutil.rmtree(path)
            if not fired:
                assert said_done
                break
            n_faults += 1
        else:
            pytest.fail("the fault fired every time")
    assert n_faults > 20, "each call of the command failed once"


def test_promise_8_after_a_purge_that_reports_success_no_byte_of_the_images_is_in_the_store(
    template, tmp_path, monkeypatch
):
    """Also if a call failed on the way: then a warning says so, and gc deletes the rest."""
    for n in range(1, 200):
        path = shutil.copytree(template, tmp_path / "s")
        gone = set(blobs_of(Store.open(path).concept("dog"))) - set(blobs_of(Store.open(path).concept("cat")))
        events = []
        with monkeypatch.context() as patch:
            store = Store.open(path)
            fault = Fault(patch, n, errno.EIO)
            try:
                events = list(concepts.remove(store, ["dog"], purge=True))
                removed = True
            except CnsctlError:
                removed = False
        left = {sha for sha in gone if (path / "blobs" / sha).exists()}
        if removed and left:
            assert any("gc" in event.text for event in events)
            for sha in left:
                os.utime(path / "blobs" / sha, (0, 0))
            collect(Store.open(path))
            left = {sha for sha in gone if (path / "blobs" / sha).exists()}
        assert not left or not removed
        shutil.rmtree(path)
        if not fault.fired:
            assert removed
            break
    else:
        pytest.fail("the fault fired every time")


def test_every_promise_of_the_page_has_a_test_that_carries_its_number():
    tests = Path(__file__).parents[1]
    page = (tests.parent / "docs" / "explanation" / "durability.md").read_text(encoding="utf-8")
    promised = set(re.findall(r"^(\d)\. \*\*", page, re.MULTILINE))
    tested = {
        number
        for path in tests.rglob("test_*.py")
        for number in re.findall(r"^def test_promise_(\d)_", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert promised == tested == set("12345678")
