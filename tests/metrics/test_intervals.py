"""Rules of intervals."""

import numpy as np
import pytest

from cnsctl.metrics.intervals import Interval, mean_interval


def interval(values, seed=0, **options):
    return mean_interval(values, generator=np.random.default_rng(seed), **options)


def test_the_same_seed_gives_the_same_interval_and_another_one_not():
    values = np.random.default_rng(1).normal(size=20)
    assert interval(values) == interval(values)
    assert interval(values, seed=1) != interval(values)


def test_the_interval_holds_the_mean_and_narrows_with_more_values():
    few, many = (interval(np.random.default_rng(1).normal(size=n)) for n in (10, 1000))
    for found in (few, many):
        assert found.low < found.mean < found.high
    assert many.high - many.low < (few.high - few.low) / 3


def test_95_of_100_intervals_hold_the_truth():
    draws = np.random.default_rng(2).normal(loc=3.0, size=(100, 40))
    held = [i.low <= 3.0 <= i.high for i in (interval(d, n_resamples=200) for d in draws)]
    assert 85 <= sum(held) <= 100


def test_the_interval_of_many_normal_values_is_the_textbook_s():
    values = np.random.default_rng(4).normal(size=400)
    half = 1.96 * values.std() / np.sqrt(values.size)
    found = interval(values)
    assert [found.low, found.high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.1 * half)


def test_a_smaller_share_is_a_narrower_interval():
    values = np.random.default_rng(3).normal(size=50)
    wide, narrow = interval(values), interval(values, share=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_equal_values_have_no_width_and_one_value_has_no_interval():
    assert interval([2.0, 2.0, 2.0]) == Interval(mean=2.0, low=2.0, high=2.0, n=3)
    assert interval([2.0]) == Interval(mean=2.0, low=None, high=None, n=1)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, np.nan], [np.inf, 1.0]])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(ValueError):
        interval(values)


@pytest.mark.parametrize("options", [{"share": 0}, {"share": 1}, {"share": 95}, {"n_resamples": 0}])
def test_settings_without_an_interval_are_refused(options):
    with pytest.raises(ValueError):
        interval([1.0, 2.0], **options)
