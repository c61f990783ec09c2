"""A merged store through the command line: each concept is trained on top of those before, and forgetting has a limit."""

from __future__ import annotations

import pytest
from commands import at, cnsctl

from cnsctl.app import session, verify
from cnsctl.app.score import mask_hash
from cnsctl.store import Store


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("drop", "kept", "found"), [(4.9, 0, 0), (5.1, 8, 7)])
def test_more_than_five_points_are_forgetting(merged, images_of_two, monkeypatch, drop, kept, found):
    """`add` refuses and `verify` reports them. Below the limit both pass, and `verify` gives what moved."""
    before = Store.open(merged).concept("dog")["scores"]["error_removed"]

    def measured(*_args, **_options):
        yield
        return before - drop

    monkeypatch.setattr(verify, "removed_error", measured)
    add = ("add", "hat", images_of_two / "hat", "--steps", 3)
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


@pytest.mark.usefixtures("unmeasured")
def test_every_setting_is_used_and_recorded(merged, images_of_two):
    flags = {
        "--steps": ("steps", 7), "--learning-rate": ("learning_rate", 0.003), "--token-learning-rate": ("token_learning_rate", 0.004),
        "--token-embeddings": ("token_embeddings", 2), "--budget": ("budget", 0.07), "--batch-size": ("batch_size", 3), "--seed": ("seed", 5),
        "--policy": ("policy", "exclusive"), "--warmup": ("warmup", 0.3), "--select": ("select", "exact"),
        "--lambda-prev": ("lambda_prev", 0.1), "--lambda-base": ("lambda_base", 0.01),
    }  # fmt: skip
    line = [word for flag, (_, value) in flags.items() for word in (flag, value)]
    of_neurons = {"--learning-rate", "--lambda-prev", "--lambda-base"}  # not flags of score
    of_score = [word for flag, (_, value) in flags.items() if flag not in of_neurons for word in (flag, value)]
    scored = cnsctl("score", "hat", images_of_two / "hat", *of_score, "--json", *at(merged)).json
    done = cnsctl("add", "hat", images_of_two / "hat", *line, "--orthogonal", "--allow-forgetting", *at(merged))
    assert done.code == 0, done.err
    shown = cnsctl("show", "hat", "--overlaps", "--json", *at(merged)).json
    assert {key: shown["recipe"][key] for key, _ in flags.values()} == dict(flags.values())
    assert shown["recipe"]["orthogonal"] is True
    assert shown["overlaps"] == {"dog": 0}
    store = Store.open(merged)
    assert mask_hash(store.delta(store.concept("hat")).indices) == scored["mask"]


@pytest.mark.usefixtures("unmeasured")
def test_a_random_mask_is_the_control_of_the_same_size(merged, images_of_two):
    add = ("add", "hat", images_of_two / "hat", "--steps", 3, "--allow-forgetting", *at(merged))
    masks = {}
    for flag in ([], ["--random-mask"]):
        assert cnsctl(*add, *flag, "--replace").code == 0
        store = Store.open(merged)
        record = store.concept("hat")
        assert record["recipe"]["random_mask"] is bool(flag)
        masks[bool(flag)] = mask_hash(store.delta(record).indices), record["neurons"]
    assert masks[True][0] != masks[False][0]
    assert masks[True][1] == masks[False][1]


def test_too_few_free_neurons_are_refused(merged, images_of_two):
    full = cnsctl(
        "add", "hat", images_of_two / "hat", "--policy", "exclusive", "--budget", 0.95, "--steps", 2, *at(merged)
    )
    assert (full.code, "error[capacity]" in full.err) == (1, True), full.err


@pytest.mark.usefixtures("unmeasured")
def test_a_concept_is_trained_on_top_of_those_before_it_and_not_of_the_one_that_it_replaces(
    merged, tiny_folder, tmp_path, images_of_two
):
    """The same dog after a hat, also in place of another dog, is not the dog that is trained alone."""
    store = tmp_path / "store"
    cnsctl("init", "--base", tiny_folder, "--mode", "merged", *at(store))

    def trained(name: str, images: str) -> str:
        line = ("add", name, images_of_two / images, "--class", name, "--replace", "--allow-forgetting")
        assert cnsctl(*line, *at(store)).code == 0
        return str(Store.open(store).concept(name)["delta"])

    trained("hat", "hat")
    after, other, instead = trained("dog", "dog"), trained("dog", "hat"), trained("dog", "dog")
    alone = str(Store.open(merged).concept("dog")["delta"])
    assert after == instead
    assert len({after, other, alone}) == 3


@pytest.mark.usefixtures("unmeasured")
def test_a_concept_removed_during_training_makes_the_commit_fail(merged, images_of_two, monkeypatch):
    """The new one was trained on top of it; the training state is kept."""
    honest = session.start

    def start(*args, **kwargs):
        monkeypatch.setattr(session, "start", honest)
        loaded = yield from honest(*args, **kwargs)
        assert cnsctl("rm", "dog", "-y", *at(merged)).code == 0
        return loaded

    monkeypatch.setattr(session, "start", start)
    late = cnsctl("add", "hat", images_of_two / "hat", *at(merged))
    store = Store.open(merged)
    assert (late.code, store.work.unfinished(), store.concepts()) == (8, ["hat"], ())
