"""The promises of docs/explanation/durability.md: that each has a test, and what a purge leaves if a call fails.

What faults do to the other commands is tested in `torture`.
"""

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
from faults import Fault
from store_samples import add, new_store

from cnsctl.app import concepts
from cnsctl.app.collect import collect
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
