"""Rules of transactions in one process, on a healthy disk."""

import dataclasses
import os

import numpy as np
import pytest
from store_samples import (
    SITES,
    add,
    assert_sound,
    base_record,
    fields,
    make_delta,
    names_in,
    new_store,
    same_delta,
    stage,
)

from cnsctl.concept import Mode
from cnsctl.errors import (
    BaseModelError,
    ConceptNotFoundError,
    InvalidNameError,
    NameTakenError,
    NotSavedError,
    StoreDamagedError,
    StoreLockedError,
    StoreNotFoundError,
)
from cnsctl.store import Store, transaction


@pytest.fixture
def store(tmp_path):
    return new_store(tmp_path / "s")


def state(store):
    """All that a reader gets."""
    return store.concepts(), store.runs(), store.free(), store.generation()


def test_no_change_is_visible_before_the_block_ends_and_all_are_visible_after(store):
    with store.transaction("add") as tx:
        stage(tx, "dog", make_delta(0))
        stage(tx, "cat", make_delta(1))
        assert store.concepts() == ()
    assert assert_sound(store.path) == ["dog", "cat"]


def test_a_block_that_fails_changes_nothing(store):
    add(store, "dog")
    before = state(store), (store.path / "catalogue.json").read_bytes()
    with pytest.raises(KeyError), store.transaction("many") as tx:
        stage(tx, "cat", make_delta(1))
        tx.remove("dog")
        raise KeyError
    assert (state(store), (store.path / "catalogue.json").read_bytes()) == before


def test_a_block_without_changes_writes_nothing(store):
    add(store, "dog")
    before = (store.path / "catalogue.json").stat()
    with store.transaction("look") as tx:
        tx.expect_generation(1)
    after = (store.path / "catalogue.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_catalogue_is_written_once_per_block_and_after_the_blobs(store, monkeypatch):
    replaced = []
    replace = os.replace

    def note(a, b):
        replaced.append(os.path.relpath(b, store.path).split("/")[0])
        replace(a, b)

    monkeypatch.setattr(os, "replace", note)
    with store.transaction("add") as tx:
        stage(tx, "dog", make_delta(0))
        stage(tx, "cat", make_delta(1))
        tx.rename("cat", "cow")
    assert [part for part in replaced[:-4] if part != "blobs"] == ["index"] * 3, "two masks and their union"
    assert replaced[-4:] == ["catalogue.json.old", "catalogue.json", "catalogue.json.bak", "names"]


def test_the_previous_generation_is_kept(store):
    before = (store.path / "catalogue.json").read_bytes()
    add(store, "dog")
    assert (store.path / "catalogue.json.bak").read_bytes() == before


def test_removing_a_concept_releases_its_neurons(store):
    add(store, "dog", 0)
    before = store.concepts(), store.free(), store.snapshot().state["owned"]
    record = add(store, "cat", 1)
    with store.transaction("rm") as tx:
        assert tx.remove("cat") == record
    assert (store.concepts(), store.free(), store.snapshot().state["owned"]) == before
    assert_sound(store.path)


def test_removing_from_the_middle_leaves_all_counts_right(store):
    for seed, name in enumerate(["dog", "cat", "ant", "cow"]):
        add(store, name, seed)
    with store.transaction("rm") as tx:
        tx.remove("cat")
        tx.remove("ant")
    assert assert_sound(store.path) == ["dog", "cow"]


def test_adding_and_removing_in_one_block_cancel_out(store):
    add(store, "dog", 0)
    before = store.concepts(), store.free()
    with store.transaction("both") as tx:
        stage(tx, "cat", make_delta(1))
        tx.remove("cat")
    assert (store.concepts(), store.free()) == before
    assert_sound(store.path)


def test_two_concepts_with_equal_deltas_share_a_blob_and_stay_two_concepts(store):
    a, b = add(store, "dog", 0), add(store, "cat", 0)
    assert a["delta"] == b["delta"]
    assert a["id"] != b["id"]
    assert_sound(store.path)
    with store.transaction("rm") as tx:
        tx.remove("dog")
    assert assert_sound(store.path) == ["cat"]
    assert same_delta(store.delta(store.concept("cat")), make_delta(0))


def test_a_taken_name_is_refused_and_replaced_only_on_request(store):
    first = add(store, "dog", 0)
    add(store, "cat", 1)
    with pytest.raises(NameTakenError, match="'dog'") as caught:
        add(store, "dog", 2)
    assert (caught.value.reason, caught.value.facts["name"]) == ("name-taken", "dog")
    second = add(store, "dog", 2, replace=True)
    assert assert_sound(store.path) == ["cat", "dog"], "the concept that was trained last is last"
    assert second["id"] != first["id"]
    assert same_delta(store.delta(store.concept("dog")), make_delta(2))


def test_replacing_an_absent_concept_adds_it(store):
    add(store, "dog", 0, replace=True)
    assert assert_sound(store.path) == ["dog"]
    assert store.runs()[-1]["outcome"] == "kept"


@pytest.mark.parametrize("name", ["Dog", "../dog", "", "dog\n"])
def test_a_name_that_is_not_allowed_is_refused_with_the_rule(store, name):
    with pytest.raises(InvalidNameError, match="a-z, 0-9"):
        add(store, name)
    add(store, "dog")
    with pytest.raises(InvalidNameError), store.transaction("mv") as tx:
        tx.rename("dog", name)
    assert assert_sound(store.path) == ["dog"]


def test_renaming_changes_only_the_name(store):
    before = add(store, "dog", 0)
    add(store, "cat", 1)
    blobs = names_in(store.path / "blobs")
    with store.transaction("mv") as tx:
        tx.rename("dog", "rex")
    assert store.concept("rex") == {**before, "name": "rex"}
    assert names_in(store.path / "blobs") == blobs
    assert assert_sound(store.path) == ["rex", "cat"]


def test_renaming_to_a_taken_name_or_from_an_absent_one_is_refused(store):
    add(store, "dog", 0)
    add(store, "cat", 1)
    with pytest.raises(NameTakenError), store.transaction("mv") as tx:
        tx.rename("dog", "cat")
    with pytest.raises(ConceptNotFoundError, match="'dgo'"), store.transaction("mv") as tx:
        tx.rename("dgo", "rex")
    with pytest.raises(ConceptNotFoundError), store.transaction("rm") as tx:
        tx.remove("dgo")
    assert assert_sound(store.path) == ["dog", "cat"]


def test_an_update_replaces_probe_and_scores_alone(store):
    before = add(store, "dog")
    with store.transaction("verify") as tx:
        tx.update("dog", probe=b"new probe", scores={"error_removed": 1.0})
        tx.update("dog")
    after = store.concept("dog")
    assert store.blob(after["probe"]) == b"new probe"
    assert after == {**before, "probe": after["probe"], "scores": {"error_removed": 1.0}}


def test_a_call_that_fails_inside_a_block_leaves_the_rest_of_the_block(store):
    with store.transaction("add") as tx:
        stage(tx, "dog", make_delta(0))
        with pytest.raises(NameTakenError):
            stage(tx, "dog", make_delta(1))
        with pytest.raises(ValueError, match="scores"):
            tx.update("dog", scores={"clip_i": float("nan")})
        with pytest.raises(ValueError, match="share"):
            delta = make_delta(2)
            tx.add(fields("cat", delta, share=7), delta, references=[b"", b""], probe=b"")
    assert assert_sound(store.path) == ["dog"]


def test_every_training_run_and_removal_is_listed(store):
    add(store, "dog", 0)
    add(store, "dog", 1, replace=True)
    with store.transaction("rm") as tx:
        tx.remove("dog")
    runs = store.runs()
    assert [(r["verb"], r["name"], r["outcome"]) for r in runs] == [
        ("add", "dog", "kept"),
        ("add", "dog", "replaced"),
        ("rm", "dog", "removed"),
    ]


def test_adding_and_removing_raise_the_generation_and_names_and_scores_do_not(store):
    add(store, "dog")
    generation = store.generation()
    with store.transaction("mv") as tx:
        tx.rename("dog", "rex")
        tx.update("rex", scores={})
    assert store.generation() == generation
    with store.transaction("add") as tx:
        tx.expect_generation(generation)
        stage(tx, "cat", make_delta(1))
    with store.transaction("rm") as tx:
        tx.remove("rex")
    assert store.generation() == generation + 2


def test_a_commit_that_expects_another_generation_is_refused(store):
    generation = store.generation()
    add(store, "dog")
    with pytest.raises(NotSavedError, match="generation 0 is now 1") as caught, store.transaction("add") as tx:
        tx.expect_generation(generation)
        stage(tx, "cat", make_delta(1))
    assert caught.value.exit_status == 8
    assert assert_sound(store.path) == ["dog"]


def test_a_place_in_the_training_order_is_never_used_twice(store):
    add(store, "dog", 0)
    with store.transaction("rm") as tx:
        tx.remove("dog")
    assert add(store, "dog", 0)["seq"] == 2


@pytest.mark.parametrize(
    "delta",
    [
        make_delta(0, fingerprint="e" * 64),
        make_delta(0, sites={s: SITES[s] for s in list(SITES)[:2]}),
        make_delta(0, sites=SITES | {"mid.to_k": (16, 7)}),
        make_delta(0, mode=Mode.MERGED),
    ],
    ids=["base", "sites", "shapes", "mode"],
)
def test_a_delta_of_another_base_model_or_mode_is_not_saved(store, delta):
    with pytest.raises(BaseModelError), store.transaction("add") as tx:
        stage(tx, "dog", delta)
    assert names_in(store.path / "blobs") == []


def test_a_delta_with_infinite_values_is_not_saved(store):
    delta = make_delta(0)
    delta.values["mid.to_k"][3] = np.inf
    with pytest.raises(NotSavedError, match="finite"), store.transaction("add") as tx:
        stage(tx, "dog", delta)
    assert names_in(store.path / "blobs") == []


def test_a_concept_without_neurons_in_a_site_is_a_concept(store):
    delta = make_delta(0)
    nothing = dataclasses.replace(
        delta,
        indices=delta.indices | {"mid.to_k": np.array([], np.int64)},
        values=delta.values | {"mid.to_k": np.array([], np.float16)},
    )
    with store.transaction("add") as tx:
        stage(tx, "dog", nothing)
    add(store, "cat", 1)
    assert assert_sound(store.path) == ["dog", "cat"]


def test_a_damaged_concept_can_be_removed_or_replaced(store):
    for seed, name in enumerate(["dog", "cat"]):
        add(store, name, seed)
    for _ in range(2):
        (store.path / "blobs" / store.concept("dog")["delta"]).write_bytes(b"")
        add(store, "dog", 2, replace=True)
        assert assert_sound(store.path) == ["cat", "dog"]
    (store.path / "blobs" / store.concept("dog")["delta"]).unlink()
    with store.transaction("rm") as tx:
        tx.remove("dog")
    assert assert_sound(store.path) == ["cat"]


def test_a_damaged_concept_does_not_affect_others(store):
    for seed, name in enumerate(["dog", "cat", "cow"]):
        add(store, name, seed)
    for name in ("dog", "cat"):
        (store.path / "blobs" / store.concept(name)["delta"]).unlink()
    add(store, "ant", 3)
    with store.transaction("rm") as tx:
        tx.remove("cow")
        tx.rename("cat", "rex")
    assert list(store.snapshot().names) == ["dog", "rex", "ant"]
    with store.transaction("rm") as tx:
        tx.remove("dog")
    assert store.snapshot().state["uncounted"] == (store.concept("rex")["id"],)
    with store.transaction("rm") as tx:
        tx.remove("rex")
    assert assert_sound(store.path) == ["ant"]


def test_the_last_runs_are_kept_and_older_ones_dropped(store, monkeypatch):
    monkeypatch.setattr(transaction, "RUNS_KEPT", 3)
    for n in range(5):
        add(store, f"c{n}", n)
    assert [run["name"] for run in store.runs()] == ["c2", "c3", "c4"]
    with store.transaction("rm") as tx:
        tx.remove("c0")
        tx.remove("c1")
    assert [run["name"] for run in store.runs()] == ["c4", "c0", "c1"]


def test_a_damaged_catalogue_refuses_transactions_and_the_previous_one_is_kept(store):
    add(store, "dog", 0)
    add(store, "cat", 1)
    previous = (store.path / "catalogue.json.bak").read_bytes()
    (store.path / "catalogue.json").write_bytes(b"{}")
    with pytest.raises(StoreDamagedError):
        add(store, "cow", 2)
    assert (store.path / "catalogue.json.bak").read_bytes() == previous


def test_the_names_are_listed_for_completion_after_each_commit(store):
    add(store, "dog", 0)
    add(store, "cat", 1)
    assert (store.path / "names").read_text() == "dog\ncat\n"
    with store.transaction("mv") as tx:
        tx.rename("dog", "rex")
        tx.remove("cat")
    assert (store.path / "names").read_text() == "rex\n"


def test_names_that_cannot_be_written_do_not_undo_the_commit(store):
    (store.path / "names").unlink()
    (store.path / "names").mkdir()
    add(store, "dog")
    assert assert_sound(store.path) == ["dog"]


def test_a_block_waits_no_longer_than_requested(store):
    late = Store.open(store.path).transaction("add cat", wait_s=0)
    with store.transaction("add dog"), pytest.raises(StoreLockedError, match="add dog"), late:
        pass


def test_the_next_block_removes_files_of_killed_writers(store):
    for folder in (store.path, store.path / "blobs"):
        (folder / ".tmp-x-1-aa").write_bytes(b"half")
    with store.transaction("nothing"):
        pass
    assert not list(store.path.rglob(".tmp-*"))


def test_a_store_that_was_moved_refuses_transactions(store, tmp_path):
    store.path.rename(tmp_path / "moved")
    with pytest.raises(StoreNotFoundError), store.transaction("add"):
        pass


def test_each_mode_accepts_deltas_of_that_mode(tmp_path):
    for mode in Mode:
        store = Store.create(tmp_path / mode, base=base_record(), mode=mode, created="2026-11-24T10:00:00Z")
        with store.transaction("add") as tx:
            stage(tx, "dog", make_delta(0, mode=mode))
        assert assert_sound(store.path) == ["dog"]
