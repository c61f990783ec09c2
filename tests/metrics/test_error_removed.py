"""Rules of error removed."""

import numpy as np
import pytest

from cnsctl.metrics.error_removed import error_removed


@pytest.mark.parametrize(
    ("with_", "without", "percent"),
    [(0.9, 1.0, 10), (1.0, 1.0, 0), (0.0, 1.0, 100), (1.5, 1.0, -50), ([0.5, 1.5], [1.0, 3.0], 50)],
)
def test_error_removed_is_the_percent_that_naming_the_concept_saves(with_, without, percent):
    assert error_removed(with_, without) == pytest.approx(percent)


def test_the_mean_is_taken_before_the_ratio():
    assert error_removed([0.02, 1.0], [0.01, 2.0]) == pytest.approx(100 * (1 - 1.02 / 2.01))


@pytest.mark.parametrize(
    ("with_", "without"),
    [
        ([1.0], 1.0),
        ([1.0, 2.0], [1.0]),
        ([], []),
        ([[1.0]], [[1.0]]),
        (np.nan, 1.0),
        (1.0, np.inf),
        (-1.0, 1.0),
        (1.0, -1.0),
        (0.0, 0.0),
        (1.0, 0.0),
    ],
)
def test_errors_that_cannot_be_compared_are_refused(with_, without):
    with pytest.raises(ValueError):
        error_removed(with_, without)
