"""Which rung of the ladder a training run pays for, with a clock that the test turns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cnsctl.app import measuring
from cnsctl.app.measuring import FEW, FULL, LADDER, LEVELS, MANY, NO_IMAGES, PREVIEW, QUICK, plan, plan_again, sample
from cnsctl.app.stores import pocket_defaults
from cnsctl.events import Phase, Step
from cnsctl.results import Scores
from cnsctl.settings import GenerateSettings, TrainSettings, complete

POCKET = complete(TrainSettings, pocket_defaults(TrainSettings), {})
OWN = complete(GenerateSettings, pocket_defaults(GenerateSettings), {})
SLOW = 60.0
"""Seconds of a step at the size of Stable Diffusion on a CPU."""


@pytest.fixture(autouse=True)
def _two_seconds(monkeypatch, measured_in_full):
    monkeypatch.setattr(measuring, "ALWAYS_S", 2.0)


@pytest.mark.parametrize(
    ("n_images", "steps", "most", "level"),
    [
        (5, 500, MANY, FULL),
        (5, 150, MANY, QUICK),  # the default of pocket and the demo
        (10, 150, FEW, QUICK),
        (5, 100, FEW, PREVIEW),
        (5, 20, FEW, NO_IMAGES),
        (500, 2, FEW, NO_IMAGES),
        (500, 100_000, MANY, FULL),
    ],
)
def test_a_slow_machine_measures_what_a_tenth_of_the_training_pays_for(n_images, steps, most, level):
    found = plan(n_images, replace(POCKET, steps=steps), OWN, step_s=SLOW)
    assert (len(found.rows), found.level) == (min(n_images, most), level)


def test_how_slow_does_not_matter_beyond_two_seconds():
    for step_s in (0.2, 1.0, SLOW, None):
        assert plan(5, POCKET, OWN, step_s=step_s).level is QUICK
    assert plan(5, POCKET, OWN, step_s=0.01).level is FULL  # within two seconds


@pytest.mark.parametrize("steps", [2, 20, 60, 150, 300, 1000])
@pytest.mark.parametrize("n_images", [1, 5, 30])
def test_the_plan_costs_at_most_a_tenth_unless_it_is_the_last_rung(steps, n_images):
    settings = replace(POCKET, steps=steps)
    found = plan(n_images, settings, OWN, step_s=SLOW)
    row_s = SLOW * measuring.FORWARD_SHARE / settings.batch_size
    spent_s = row_s * measuring._cost(n_images, len(found.rows), found.level, OWN)
    assert spent_s <= 0.1 * steps * SLOW or (len(found.rows), found.level) == (min(n_images, FEW), NO_IMAGES)


def test_without_a_preview_only_error_removed_is_measured():
    assert plan(30, replace(POCKET, steps=10_000), OWN, step_s=SLOW, preview=False) == measuring.Plan(
        rows=sample(30, MANY), level=NO_IMAGES
    )
    assert len(plan(30, POCKET, OWN, step_s=SLOW, preview=False).rows) == FEW


def test_a_level_never_takes_more_steps_than_the_base_model_does():
    assert QUICK.settings(replace(OWN, steps=4)).steps == 4
    assert QUICK.settings(OWN) == replace(OWN, steps=12)
    assert FULL.settings(OWN) is OWN
    assert {level.name for _, level in LADDER} == set(LEVELS)


def test_a_sample_is_bounded_fixed_and_contains_the_smaller_ones():
    small, large = sample(500, FEW), sample(500, MANY)
    assert (len(small), len(large)) == (FEW, MANY)
    assert set(small) < set(large)
    assert large == sorted(large) == sample(500, MANY)
    assert large != list(range(MANY))
    assert sample(3, MANY) == [0, 1, 2]


def test_a_concept_is_measured_again_as_it_was():
    trained = Scores(error_removed=1.0, clip_i=None, clip_t=None, measured_on=5, level="quick")
    assert plan_again(trained, 30) == measuring.Plan(rows=sample(30, 5), level=QUICK)
    assert plan_again(trained, 30, full=True) == measuring.Plan(rows=sample(30, MANY), level=FULL)
    for level in ("none", "preview", None, "of a newer version"):  # has no scores by CLIP to compare with
        assert plan_again(replace(trained, level=level), 30).level is FULL
    unmeasured = Scores(error_removed=None, clip_i=None, clip_t=None)
    assert plan_again(unmeasured, 30) == measuring.Plan(rows=sample(30, MANY), level=FULL)


def test_the_time_of_a_step_is_that_of_the_work_and_not_of_its_reader(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(measuring, "clock", lambda: now[0])

    def work(seconds):
        yield Phase(name="train", total=len(seconds))
        for i, s in enumerate(seconds):
            now[0] += s
            yield Step(phase="train", step=i + 1, total=len(seconds))
        return "trained"

    def read(seconds):
        steps = measuring.timed(work(seconds))
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return done.value
            now[0] += 1000

    assert read([90.0, 3.0, 4.0]) == ("trained", 4.0)  # the first step loads kernels: the median, not the mean
    assert read([]) == ("trained", None)
    assert not math.isinf(measuring.ALWAYS_S)
