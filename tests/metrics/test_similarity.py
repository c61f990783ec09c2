"""Rules of similarity scores."""

import numpy as np
import pytest

from cnsctl.metrics.similarity import (
    accuracy,
    clip_i,
    clip_t,
    likeness_within,
    nearest,
    row_cosines,
)

rng = np.random.default_rng(0)
A, B = rng.normal(size=(4, 8)), rng.normal(size=(6, 8))


def cosine(x, y):
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def test_clip_i_is_the_mean_over_all_pairs():
    assert clip_i(A, B) == pytest.approx(np.mean([cosine(a, b) for a in A for b in B]))
    assert clip_i(A, B) == pytest.approx(clip_i(B, A))
    assert clip_i(A[:1], A[:1]) == pytest.approx(1)
    assert clip_i(A[:1], -A[:1]) == pytest.approx(-1)


def test_within_a_set_each_pair_counts_once_and_an_image_with_itself_does_not_count():
    features = np.array([[1, 0], [0, 2], [3, 0]], dtype=np.float32)
    assert likeness_within(features) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="a pair needs two"):
        likeness_within(features[:1])


def test_clip_t_is_the_mean_over_rows_alone():
    assert clip_t(A, B[:4]) == pytest.approx(np.mean([cosine(a, b) for a, b in zip(A, B[:4], strict=True)]))


def test_scores_do_not_depend_on_the_length_of_features():
    scales = np.geomspace(1e-6, 1e6, 4)[:, None]
    assert clip_i(A * scales, B) == pytest.approx(clip_i(A, B))
    assert clip_t(A * scales, B[:4]) == pytest.approx(clip_t(A, B[:4]))


def test_half_precision_features_are_compared_in_full_precision():
    big = np.full((1, 768), 60_000, dtype=np.float16)
    assert clip_i(big, big) == pytest.approx(1)


def test_an_image_belongs_to_the_set_that_it_is_most_like():
    sets = {"x": np.array([[1.0, 0, 0], [1, 0.1, 0]]), "y": np.array([[0, 1.0, 0]]), "z": np.array([[0, 0, 1.0]] * 3)}
    features = np.array([[5, 1, 0], [0.1, 9, 0], [0, 0.2, 1]])
    assert nearest(features, sets) == ["x", "y", "z"]
    assert nearest(features, dict(reversed(sets.items()))) == ["x", "y", "z"]
    assert nearest(np.array([[1.0, 1, 1]]), {"b": np.eye(3), "a": np.eye(3)}) == ["a"]


def test_accuracy_is_the_share_of_names_that_are_right():
    assert accuracy(["a", "b", "a", "c"], ["a", "b", "b", "c"]) == 0.75
    for found, wanted in ([], []), (["a"], ["a", "b"]):
        with pytest.raises(ValueError):
            accuracy(found, wanted)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (A[0], B),
        (A, B[:, :7]),
        (A[:0], B),
        (A, np.zeros((1, 8))),
        (A * np.nan, B),
        (A, B * np.inf),
        (A[None], B),
    ],
)
def test_features_of_the_wrong_kind_are_refused(a, b):
    with pytest.raises(ValueError):
        clip_i(a, b)
    with pytest.raises(ValueError):
        nearest(a, {"b": b})


def test_rows_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="each image needs one text"):
        row_cosines(A, B)
    with pytest.raises(ValueError, match="must not be empty"):
        nearest(A, {})
