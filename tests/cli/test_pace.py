"""Rules of the time that is left: it is that of the whole command, follows from what was computed, and does not jump."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cnsctl.cli.pace import ENOUGH, Course
from cnsctl.events import Ahead, Denoised, Phase, Step


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def course(clock):
    return Course(clock)


def begin(course, name, total, unit=None):
    course.take(Phase(name=name, total=total, unit=unit))


def step(course, clock, step_s, steps=1):
    """Steps of the current phase, each of so many seconds; what is left after each."""
    left = []
    for _ in range(steps):
        clock.now += step_s
        pace = course.pace
        course.take(Step(phase=pace.name, step=pace.done + 1, total=pace.total))
        left.append(course.left_s)
    return left


def test_the_time_left_is_that_of_all_phases(course, clock):
    course.take(Ahead(phases=(("load", 10), ("train", 100), ("measure", 50))))
    begin(course, "load", 100, "%")
    assert step(course, clock, 1, 100) == [None] * 100  # reading files says nothing about computing
    begin(course, "train", 10)
    *_, last = step(course, clock, 2, 5)
    assert last == pytest.approx(5 * 2 + 50 * 20 / 100)
    step(course, clock, 2, 5)
    begin(course, "measure", 4)
    assert course.left_s == pytest.approx(10)


def test_the_first_step_which_prepares_the_others_does_not_count(course, clock):
    begin(course, "train", 10)
    step(course, clock, 60)
    assert course.left_s is None
    assert step(course, clock, 1) == [pytest.approx(8)]


def test_it_counts_down_between_two_events_and_not_below_what_comes_later(course, clock):
    course.take(Ahead(phases=(("train", 100), ("measure", 50))))
    begin(course, "train", 10)
    step(course, clock, 2, 5)
    clock.now += 3
    assert course.left_s == pytest.approx(7 + 10)
    clock.now += 1000
    assert course.left_s == pytest.approx(10)


@pytest.mark.parametrize("wrong", [0.3, 3.0])
def test_a_wrong_cost_is_corrected_without_a_jump(course, clock, wrong):
    """The second phase takes `wrong` times what was expected: the shown time goes to the true one step by step."""
    course.take(Ahead(phases=(("train", 100), ("measure", 100))))
    begin(course, "train", 50)
    step(course, clock, 1, 50)
    assert course.left_s == pytest.approx(50)
    begin(course, "measure", 50)
    left = [50.0, *step(course, clock, wrong, 50)]
    true = [wrong * (50 - n) for n in range(51)]
    assert all(abs(b - a) < 12 for a, b in pairwise(left))
    off = [abs(shown - really) for shown, really in zip(left, true, strict=True)]
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(off))
    assert off[17:] == pytest.approx([0] * 34)


def test_a_phase_that_does_not_come_is_skipped_and_one_that_was_not_foreseen_loses_nothing(course, clock):
    course.take(Ahead(phases=(("train", 100), ("cached", 40), ("measure", 50), ("save", 10))))
    begin(course, "train", 10)
    step(course, clock, 1, 10)
    assert course.left_s == pytest.approx(10)
    begin(course, "measure", 5)
    assert course.left_s == pytest.approx(6)
    step(course, clock, 1, 5)
    begin(course, "once more", 5)
    assert course.left_s == pytest.approx(1)
    step(course, clock, 2, 2)
    assert course.left_s == pytest.approx(6 + 1)


def test_what_is_ahead_can_be_said_anew(course, clock):
    course.take(Ahead(phases=(("train", 100), ("measure", 900))))
    begin(course, "train", 10)
    step(course, clock, 1, 10)
    course.take(Ahead(phases=(("measure", 20),)))
    assert course.left_s == pytest.approx(2)


def test_before_enough_is_computed_nothing_is_said(course, clock):
    course.take(Ahead(phases=(("encode", 100 * ENOUGH / 2), ("train", 100))))
    begin(course, "encode", 5)
    assert step(course, clock, 9, 5) == [None] * 5
    begin(course, "train", 100)
    assert step(course, clock, 1, 2)[-1] is not None


def test_the_share_never_goes_back(course, clock):
    course.take(Ahead(phases=(("load", 15), ("train", 100), ("measure", 50))))
    shares = []
    for name, total, step_s in (("load", 20, 0.1), ("train", 20, 3.0), ("measure", 20, 9.0)):
        begin(course, name, total, "%" if name == "load" else None)
        for _ in range(total):
            step(course, clock, step_s)
            shares.append(course.share)
    assert all(a <= b for a, b in pairwise(shares))
    assert (shares[-1], shares[0]) == (1.0, pytest.approx(0.005, abs=0.01))


def test_the_next_line_of_a_stream_begins_anew(course, clock):
    for _ in range(2):
        begin(course, "generate", 1)
        assert course.share == 0
        for n in range(1, 5):
            clock.now += 1
            course.take(Denoised(step=n, total=4))
        assert course.share == 1


def test_previews_are_work_beside_the_steps(course, clock):
    """Ten steps, of which four previews that take as long as five steps each interrupt them: 30 seconds in all."""
    course.take(Phase(name="train", total=10, beside=20.0))
    for n in range(1, 11):
        step(course, clock, 1)
        for part in range(1, 6) if n % 2 == 0 and n < 10 else ():
            assert course.left_s == (None if n == 1 else pytest.approx(30 - clock.now))
            clock.now += 1
            course.take(Denoised(step=part, total=5, images=0, beside=5.0))
            assert course.pace.count == f"{n}/10"
    assert (course.share, course.left_s) == (1.0, 0.0)


def test_while_a_base_model_is_loaded_the_time_left_is_told_if_hardly_anything_comes_later(course, clock):
    course.take(Ahead(phases=(("load", 20), ("prove", 1))))
    begin(course, "load", 100, "%")
    *_, last = step(course, clock, 0.1, 50)
    assert last == pytest.approx(5)
    assert course.share == pytest.approx(0.5)
