"""A concept that is worse than its class word alone is not saved unless asked for, and its training state is kept."""

from __future__ import annotations

import numpy as np
import pytest
from commands import at, cnsctl, tree

from cnsctl import open_store
from cnsctl.app import acceptance, evaluate, measuring
from cnsctl.errors import NotSavedError
from cnsctl.results import Scores

QUICK = ("--class", "dog", "--steps", 3, "--no-preview")


@pytest.fixture
def removed(monkeypatch):
    """Sets what is measured as error removed."""

    def set_to(value: float) -> None:
        def removed_error(*_args, **_kwargs):
            return value
            yield

        monkeypatch.setattr(evaluate, "removed_error", removed_error)

    return set_to


def test_a_worse_concept_is_refused_with_the_likely_cause_and_saved_on_demand(empty, images, removed):
    removed(-212.0)
    before = tree(empty)
    line = ["add", "hot", images, *QUICK, "--learning-rate", 0.9, *at(empty)]
    refused = cnsctl(*line)
    assert refused.code == 8, refused.err
    assert "<hot> is worse than its class word on the base model: error removed is -212.0 %" in refused.err
    assert "the learning rate 0.9 (default 0.01); the training state is kept" in refused.err
    assert "leave out --learning-rate" in refused.err
    assert "--allow-worse" in refused.err
    assert tree(empty) == before
    assert "training of <hot>" in cnsctl("ls", *at(empty)).err
    saved = cnsctl(*line, "--allow-worse")
    assert saved.code == 0, saved.err
    assert "training resumes after step 3" in saved.err
    assert "warning: <hot> is worse" in saved.err
    assert cnsctl("show", "hot", "--json", *at(empty)).json["concept"]["scores"]["error_removed"] == -212.0


@pytest.mark.parametrize(("value", "code"), [(-0.051, 8), (-0.04, 0), (0.0, 0), (float("nan"), 8)])
def test_the_limit_is_what_is_shown_as_less_than_zero(empty, images, removed, value, code):
    removed(value)
    assert cnsctl("add", "hot", images, *QUICK, *at(empty)).code == code


def test_without_a_higher_learning_rate_the_hint_is_more_steps(empty, images, removed):
    removed(-1.0)
    assert "use more --steps" in cnsctl("add", "hot", images, *QUICK, *at(empty)).err


def test_what_is_not_measured_is_not_judged(empty, images):
    assert cnsctl("add", "hot", images, "--class", "dog", "--steps", 2, "--no-measure", *at(empty)).code == 0


def test_python_raises_the_same_and_has_the_same_keyword(empty, images, removed):
    removed(-5.0)
    with open_store(empty).load(device="cpu") as session:
        with pytest.raises(NotSavedError, match="error removed is -5"):
            session.train("hot", images, class_word="dog", steps=3, preview=False).result()
        with pytest.warns(UserWarning, match="is worse"):
            session.train("hot", images, class_word="dog", steps=3, preview=False, allow_worse=True).result()


class _Clip:
    """A CLIP whose feature of an image is its first two pixels' red."""

    def images(self, pixels):
        return np.stack([image[0, :2, 0].astype(np.float64) for image in pixels])


@pytest.mark.parametrize(
    ("clip_i", "with_class", "worse"),
    [(0.95, (9, 1), False), (0.5, (9, 1), True), (0.5, (1, 9), False)],
)
def test_clip_i_is_compared_with_the_class_word_if_it_is_low(monkeypatch, clip_i, with_class, worse):
    own = [np.full((2, 2, 3), [[[10], [1]], [[0], [0]]], dtype=np.uint8)] * 2
    generated = np.full((2, 2, 3), [[[with_class[0]], [with_class[1]]], [[0], [0]]], dtype=np.uint8)
    made = []

    def of_class_word(*_args):
        made.append(True)
        return [generated]
        yield

    monkeypatch.setattr(evaluate, "of_class_word", of_class_word)
    session = type("Session", (), {"clip": lambda _self: _Clip()})()
    scores = Scores(error_removed=5.0, clip_i=clip_i, clip_t=0.2)
    plan = measuring.Plan(rows=[0, 1], level=measuring.QUICK)
    work = acceptance._worse(session, None, "hot", scores, plan=plan, pixels=own)
    with pytest.raises(StopIteration) as done:
        while True:
            next(work)
    found, with_class_word = done.value.value
    assert bool(found) == worse
    assert (with_class_word is not None) == bool(made)
    assert bool(made) == (clip_i < 0.9)
