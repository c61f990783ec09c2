"""The merged store through the command line: each concept stands on those before, and forgetting has a limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import at, cnsctl

from cnsctl.app import measure, train
from cnsctl.app.score import mask_hash
from cnsctl.store import Store


@pytest.fixture(scope="module")
def _merged(tiny_folder, pictures_of_two, tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("stores") / "merged"
    assert cnsctl("init", "--base", tiny_folder, "--mode", "merged", *at(store)).code == 0
    assert cnsctl("add", "dog", pictures_of_two / "dog", *at(store)).code == 0
    return store


@pytest.fixture
def merged(_merged, tmp_path) -> Path:
    """A merged store on the tiny base with one concept, `dog`, for this test alone."""
    import shutil

    return Path(shutil.copytree(_merged, tmp_path / "merged"))


@pytest.mark.parametrize(("drop", "kept", "found"), [(4.9, 0, 0), (5.1, 8, 7)])
def test_more_than_five_points_are_forgetting(merged, pictures_of_two, monkeypatch, drop, kept, found):
    """`add` refuses, `verify` reports; below, both let it pass, and what moved is told."""
    before = Store.open(merged).concept("dog")["learned"]["error_removed"]
    monkeypatch.setattr(measure, "fit", lambda *_a, **_k: before - drop)
    add = ("add", "hat", pictures_of_two / "hat")
    assert cnsctl(*add, *at(merged)).code == kept
    if kept:
        assert cnsctl(*add, "--allow-forgetting", *at(merged)).code == 0
    verified = cnsctl("verify", "--json", *at(merged))
    dog, hat = verified.json["concepts"]
    assert (verified.code, dog["forgotten"], dog["unchanged"]) == (found, drop > 5, False)
    assert dog["lost"] == pytest.approx(drop)
    assert dog["moved"] > 0
    assert (hat["unchanged"], hat["lost"], hat["moved"]) == (True, None, 0)
    assert cnsctl("rm", "hat", "-y", *at(merged)).code == 0
    assert cnsctl("verify", *at(merged)).code == 0  # dog is exactly what it was


def test_every_setting_arrives(merged, pictures_of_two):
    flags = {
        "--steps": ("steps", 7), "--lr": ("learning_rate", 0.003), "--lr-token": ("token_learning_rate", 0.004),
        "--vectors": ("vectors", 2), "--budget": ("budget", 0.07), "--batch": ("batch", 3), "--seed": ("seed", 5),
        "--policy": ("policy", "exclusive"),
    }  # fmt: skip
    line = [word for flag, (_, value) in flags.items() for word in (flag, value)]
    without_rate = [word for flag, (_, value) in flags.items() if flag != "--lr" for word in (flag, value)]
    scored = cnsctl("score", "hat", pictures_of_two / "hat", *without_rate, "--json", *at(merged)).json
    done = cnsctl("add", "hat", pictures_of_two / "hat", *line, "--orthogonal", "--allow-forgetting", *at(merged))
    assert done.code == 0, done.err
    shown = cnsctl("show", "hat", "--overlaps", "--json", *at(merged)).json["concept"]
    assert {key: shown["recipe"][key] for key, _ in flags.values()} == dict(flags.values())
    assert shown["recipe"]["orthogonal"] is True
    assert shown["overlaps"] == {"dog": 0}
    store = Store.open(merged)
    assert mask_hash(store.delta(store.concept("hat")).indices) == scored["mask"]


def test_a_random_mask_is_the_control_of_the_same_size(merged, pictures_of_two):
    add = ("add", "hat", pictures_of_two / "hat", "--allow-forgetting", *at(merged))
    masks = {}
    for flag in ([], ["--random-mask"]):
        assert cnsctl(*add, *flag, "--replace").code == 0
        store = Store.open(merged)
        record = store.concept("hat")
        assert record["recipe"]["random_mask"] is bool(flag)
        masks[bool(flag)] = mask_hash(store.delta(record).indices), record["neurons"]
    assert masks[True][0] != masks[False][0]
    assert masks[True][1] == masks[False][1]


def test_where_no_neuron_is_free_that_is_said(merged, pictures_of_two):
    full = cnsctl(
        "add", "hat", pictures_of_two / "hat", "--policy", "exclusive", "--budget", 0.95, "--steps", 2, *at(merged)
    )
    assert (full.code, "free neurons left" in full.err) == (1, True), full.err


def test_a_concept_stands_on_those_before_it_and_not_on_the_one_that_it_replaces(
    merged, tiny_folder, tmp_path, pictures_of_two
):
    """The same dog after a hat, also in place of another dog, is not the dog that is learned alone."""
    store = tmp_path / "store"
    cnsctl("init", "--base", tiny_folder, "--mode", "merged", *at(store))

    def learned(name: str, pictures: str) -> str:
        line = ("add", name, pictures_of_two / pictures, "--class", name, "--replace", "--allow-forgetting")
        assert cnsctl(*line, *at(store)).code == 0
        return str(Store.open(store).concept(name)["delta"])

    learned("hat", "hat")
    after, other, instead = learned("dog", "dog"), learned("dog", "hat"), learned("dog", "dog")
    alone = str(Store.open(merged).concept("dog")["delta"])
    assert after == instead
    assert len({after, other, alone}) == 3


def test_a_concept_that_is_gone_meanwhile_refuses_the_commit(merged, pictures_of_two, monkeypatch):
    """What was learned stood on it; the work is kept."""
    honest = train.start

    def start(*args, **kwargs):
        monkeypatch.setattr(train, "start", honest)
        session = honest(*args, **kwargs)
        assert cnsctl("rm", "dog", "-y", *at(merged)).code == 0
        return session

    monkeypatch.setattr(train, "start", start)
    late = cnsctl("add", "hat", pictures_of_two / "hat", *at(merged))
    store = Store.open(merged)
    assert (late.code, store.work.unfinished(), store.concepts()) == (8, ["hat"], ())
