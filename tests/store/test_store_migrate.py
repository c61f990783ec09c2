"""Older formats of a store: read, not changed before `migrate`, and upgraded by a chain of steps that can go back.

Nothing older was released, so the formats here are of these tests: `store.json` 2 calls the mode `kind_of_use`, and
catalogue 1 has durations in milliseconds, where catalogue 2 would have seconds.
"""

import errno
import os
import shutil

import pytest
from faults import Fault, Killed
from store_samples import add, assert_sound, names_in, new_store

import cnsctl
from cnsctl.app import concepts
from cnsctl.app.check import check
from cnsctl.app.collect import collect
from cnsctl.app.migrate import migrate
from cnsctl.app.undo import undo
from cnsctl.errors import CnsctlError, FormatTooNewError, FormatTooOldError, StoreDamagedError, UsageError
from cnsctl.events import result_of
from cnsctl.formats import canonical
from cnsctl.store import Store, catalogue, manifest
from cnsctl.store.migrations import STEPS
from cnsctl.store.seal import sealed

KEPT = f"before-migration/{cnsctl.__version__}"


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def mode_renamed(payload):
    return {("mode" if key == "kind_of_use" else key): value for key, value in payload.items()}


def in_seconds(tables):
    runs = {key: {**run, "seconds": run["seconds"] / 1000} for key, run in tables["runs"].items()}
    return {**tables, "runs": runs}


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A store with dog and rex as a version before would have written it."""
    store = new_store(tmp_path_factory.mktemp("old") / "s")
    add(store, "dog")
    add(store, "cat", 1)
    result_of(concepts.rename(store, "cat", "rex"))
    path = store.path
    payload = canonical.parse_object(
        canonical.dump(canonical.parse_object((path / "store.json").read_bytes())["payload"])
    )
    older = {("kind_of_use" if key == "mode" else key): value for key, value in payload.items()}
    for name in (manifest.FILE, manifest.COPY):
        (path / name).unlink()
        (path / name).write_bytes(sealed(canonical.dump(older), 2))
    for name in (catalogue.FILE, catalogue.PREVIOUS):
        tables = {k: dict(v) for k, v in catalogue.unseal((path / name).read_bytes(), name).tables.items()}
        tables["runs"] = {key: {**run, "seconds": 1234.0} for key, run in tables["runs"].items()}
        (path / name).unlink()
        (path / name).write_bytes(catalogue.seal(tables))
    return path


@pytest.fixture
def store(old, tmp_path, monkeypatch):
    monkeypatch.setitem(STEPS["store.json"], 2, mode_renamed)
    monkeypatch.setitem(STEPS["catalogue.json"], 1, in_seconds)
    monkeypatch.setattr(catalogue, "FORMAT", 2)
    return Store.open(shutil.copytree(old, tmp_path / "s"))


def shown(path):
    """What a store contains, whatever its format."""
    found = Store.open(path)
    return (
        [dict(r) for r in found.concepts()],
        [dict(r) for r in found.runs()],
        str(found.mode),
        dict(found.snapshot().state),
    )


FILES = ("catalogue.json", "catalogue.json.bak", "store.json", "store.json.bak")


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_promise_7_a_store_of_an_older_format_is_read(store):
    assert assert_sound(store.path) == ["dog", "rex"]
    assert {run["seconds"] for run in store.runs()} == {1.234}
    assert result_of(check(store, read_data=True)).findings == ()
    assert store.mode == "prompt"


def test_promise_7_a_store_of_an_older_format_is_not_changed_before_it_is_migrated(store):
    before = bytes_of(store.path)
    changes = (
        lambda: add(store, "new"),
        lambda: result_of(concepts.rename(store, "dog", "max")),
        lambda: result_of(concepts.remove(store, ["dog"], purge=True)),
        lambda: result_of(undo(store)),
        lambda: store.set_places(base=store.base),
    )
    for change in changes:
        with pytest.raises(FormatTooOldError):
            change()
    collect(store)
    assert bytes_of(store.path) == before


def test_promise_7_migrate_writes_the_newest_format_and_keeps_the_files_as_they_were(store):
    before, content = bytes_of(store.path), shown(store.path)
    planned = migrate(store, dry_run=True)
    assert bytes_of(store.path) == before
    done = migrate(store)
    assert planned.files == done.files
    assert [(f.file, f.before, f.after) for f in done.files] == [
        ("catalogue.json.bak", 1, 2),
        ("catalogue.json", 1, 2),
        ("store.json.bak", 2, 3),
        ("store.json", 2, 3),
    ]
    assert bytes_of(store.path / KEPT) == before
    assert shown(store.path) == content
    new = Store.open(store.path)
    assert (new.manifest.format, new.catalogue().format) == (3, 2)
    assert result_of(undo(new)).renamed == {"rex": "cat"}, "the previous generation is migrated, too"
    add(new, "new", 5)
    assert assert_sound(store.path) == ["dog", "cat", "new"]


def test_a_store_of_the_newest_format_has_nothing_to_migrate(tmp_path):
    store = new_store(tmp_path / "s")
    before = names_in(store.path)
    assert migrate(store, dry_run=True).files == migrate(store).files == ()
    assert set(names_in(store.path)) == {*before, "lock"}
    with pytest.raises(UsageError, match="nothing to go back to"):
        migrate(store, back=True)


def test_promise_7_a_migrated_store_can_go_back_if_nothing_has_changed_since(store):
    before = bytes_of(store.path)
    migrate(store)
    assert migrate(Store.open(store.path), back=True, dry_run=True).back
    done = migrate(Store.open(store.path), back=True)
    assert next((f.file, f.before, f.after) for f in done.files) == ("catalogue.json.bak", 2, 1)
    assert bytes_of(store.path) == before
    migrate(Store.open(store.path))
    add(Store.open(store.path), "new", 5)
    with pytest.raises(UsageError, match="has changed since"):
        migrate(Store.open(store.path), back=True)
    assert assert_sound(store.path) == ["dog", "rex", "new"]


@pytest.mark.slow
@pytest.mark.parametrize("back", [False, True], ids=["forward", "back"])
@pytest.mark.parametrize(("error", "forever"), [(errno.EIO, False), (errno.ENOSPC, True), (Killed, False)])
def test_promise_7_a_migration_that_fails_at_any_call_loses_nothing_and_is_continued(
    store, tmp_path, monkeypatch, error, forever, back
):
    """After each fault every reader gives the same; the same command then ends as if nothing had happened."""
    before, content = bytes_of(store.path), shown(store.path)
    if back:
        migrate(store)
    whole = shutil.copytree(store.path, tmp_path / "whole")
    after = whole
    if not back:
        migrate(Store.open(after := shutil.copytree(whole, tmp_path / "after")))
    wanted = before if back else bytes_of(after)
    for n in range(1, 200):
        path = shutil.copytree(whole, tmp_path / "try")
        with monkeypatch.context() as patch:
            opened = Store.open(path)
            fault = Fault(patch, n, error, forever=forever)
            try:
                migrate(opened, back=back)
                done = True
            except (CnsctlError, Killed):
                done = False
        assert shown(path) == content, n
        assert not done or bytes_of(path) == wanted
        migrate(Store.open(path), back=back)
        assert bytes_of(path) == wanted, n
        assert bytes_of(path / KEPT) == before, n
        shutil.rmtree(path)
        if not fault.fired:
            break
    else:
        pytest.fail("the fault fired every time")
    assert n > 20


def test_a_format_that_was_never_released_is_damage(store, monkeypatch):
    monkeypatch.delitem(STEPS["catalogue.json"], 1)
    with pytest.raises(StoreDamagedError, match="format 1 was never released"):
        store.snapshot()


def test_promise_7_a_newer_format_is_refused_with_the_version_that_it_needs(tmp_path):
    """The key `needs` is what every newer format has."""
    path = new_store(tmp_path / "s").path
    for payload, note in (
        ({"needs": "0.7"}, f"it needs cnsctl 0.7 or newer; this is cnsctl {cnsctl.__version__}"),
        ({"needs": "0.7\x1b[2J"}, "written by a newer cnsctl; this one reads up to 3"),
        ({}, "written by a newer cnsctl; this one reads up to 3"),
    ):
        for name in (manifest.FILE, manifest.COPY):
            (path / name).write_bytes(sealed(canonical.dump(payload), 4))
        with pytest.raises(FormatTooNewError, match=r"store\.json has format 4") as caught:
            Store.open(path)
        assert caught.value.note == note


def test_the_chain_has_a_step_for_every_format_since_the_first_release():
    """3 and 1 are the numbers of version 0.1.0."""
    assert {file: sorted(steps) for file, steps in STEPS.items()} == {
        "store.json": list(range(3, manifest.FORMAT)),
        "catalogue.json": list(range(1, catalogue.FORMAT)),
    }
