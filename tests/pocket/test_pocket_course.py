"""Time and rates: warm up, stay, fall to a fiftieth when the time is up."""

from __future__ import annotations

import pytest

from pocket.training.course import Course


def test_the_rate_warms_up_and_then_stays():
    course = Course(budget_s=1e9)
    rates = [course.rate(step, peak=1.0, warm=4) for step in range(8)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])


def test_a_run_that_goes_on_is_warm():
    course = Course(budget_s=1e9)
    assert [course.rate(step, peak=1.0, warm=4, before=2) for step in range(3)] == pytest.approx([0.75, 1, 1])


@pytest.mark.parametrize(("decay_from", "expected"), [(0.0, [1, 0.755, 0.51, 0.265]), (0.5, [1, 1, 1, 0.51])])
def test_the_rate_falls_linearly_to_a_fiftieth(decay_from, expected):
    course = Course(budget_s=1, max_steps=4, decay_from=decay_from)
    assert [course.rate(step, peak=1.0, warm=1) for step in range(4)] == pytest.approx(expected)
    assert course.rate(4, peak=1.0, warm=1) == pytest.approx(0.02)


def test_a_course_that_goes_on_remembers_the_time_spent():
    """Five of ten seconds were spent by an earlier run, and it began an hour ago by its own clock."""
    half = Course(budget_s=1e6, spent_before_s=0.5e6)
    assert half.share(0) == pytest.approx(0.5, abs=1e-3)
    assert not Course(budget_s=10, spent_before_s=10).goes_on(0)


def test_no_time_is_no_step():
    assert not Course(budget_s=0).goes_on(0)
