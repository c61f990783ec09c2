"""Rules of forgetting and drift."""

import math

import numpy as np
import pytest

from cnsctl.metrics.forgetting import Drift, drift, forgetting, psnr

BLACK = np.zeros((4, 5, 3), dtype=np.uint8)
WHITE = np.full((4, 5, 3), 255, dtype=np.uint8)


def test_forgetting_is_what_was_lost_since_training():
    assert forgetting(0.8, 0.7) == pytest.approx(0.1)
    assert forgetting(0.0, 0.1) == pytest.approx(-0.1)


@pytest.mark.parametrize(("trained", "now"), [(None, 0.5), (0.5, None), (None, None)])
def test_without_both_scores_there_is_no_forgetting(trained, now):
    assert forgetting(trained, now) is None


def test_scores_that_are_not_finite_are_refused():
    for pair in (math.nan, 0.5), (0.5, math.inf):
        with pytest.raises(ValueError):
            forgetting(*pair)


def test_equal_images_have_no_drift():
    assert drift([BLACK, WHITE], [BLACK.copy(), WHITE.copy()]) == Drift(max_abs=0, mean_abs=0.0, changed=0)


def test_one_changed_value_is_found_in_either_direction():
    changed = BLACK.copy()
    changed[1, 2, 0] = 200
    expected = Drift(max_abs=200, mean_abs=200 / 120, changed=1)
    assert drift([changed, WHITE], [BLACK, WHITE]) == drift([BLACK, WHITE], [changed, WHITE]) == expected


def test_images_of_different_sizes_weigh_by_their_values():
    small = np.zeros((1, 1, 3), dtype=np.uint8)
    assert drift([WHITE, small], [BLACK, small]).mean_abs == pytest.approx(255 * 60 / 63)


@pytest.mark.parametrize(
    ("now", "before"),
    [
        ([], []),
        ([BLACK], []),
        ([BLACK], [BLACK[:3]]),
        ([BLACK], [BLACK.astype(int)]),
        ([BLACK[..., 0]], [BLACK[..., 0]]),
    ],
)
def test_images_that_cannot_be_paired_are_refused(now, before):
    with pytest.raises(ValueError):
        drift(now, before)


def test_psnr_is_infinite_for_equals_zero_for_opposites_and_48_for_one_level():
    assert psnr(BLACK, BLACK) == math.inf
    assert psnr(BLACK, WHITE) == pytest.approx(0)
    assert psnr(BLACK, BLACK + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)
    with pytest.raises(ValueError):
        psnr(BLACK, BLACK[:, :2])
