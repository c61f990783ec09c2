"""The verdict on a concept: scores against the usual ranges of its base model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cnsctl.metrics.verdict import strange, verdict
from cnsctl.results import Scores

USUAL = {
    "denoising_error": (0.15, 0.35),
    "class_word_share": (0.7, 1.35),
    "clip_i_real": (0.25, 0.95),
    "error_removed": (10.0, 40.0),
    "clip_i": (0.3, 0.8),
    "clip_t": (0.3, 0.85),
}
USUAL_SCORES = Scores(
    error_removed=21.0, clip_i=0.5, clip_t=0.48, clip_i_real=0.45, denoising_error=0.2, class_word_error=0.21
)


def judged(usual=USUAL, **scores):
    return verdict(replace(USUAL_SCORES, **scores), usual, class_word="cat", base="pocket")


@pytest.mark.parametrize(
    ("scores", "grade", "words"),
    [
        ({}, "good", ()),
        ({"clip_i": 0.99, "clip_t": 0.99, "clip_i_real": 1.0, "denoising_error": 0.16}, "good", ()),
        (
            {"error_removed": 42.0},
            "weak",
            ("the class word 'cat' may be wrong: error removed 42.0 %, usual 10 to 40 %",),
        ),
        ({"error_removed": 9.9}, "weak", ("only 9.9 % better than plain cat, usual 10 to 40 %",)),
        ({"error_removed": -3.0}, "weak", ("predicts its images 3.0 % worse than plain cat",)),
        ({"clip_i": 0.2}, "weak", ("do not look like yours: CLIP-I 0.200, usual 0.3 to 0.8",)),
        ({"clip_t": 0.195}, "bad", ("do not show a cat: CLIP-T 0.195, usual 0.3 to 0.85",)),
        ({"clip_i_real": -0.04}, "weak", ("little in common",)),
        ({"class_word_error": 0.29}, "weak", ("the class word 'cat' may be wrong",)),
        ({"class_word_error": 0.29, "error_removed": 42.0}, "weak", ("may be wrong: with it, the denoising error",)),
        ({"denoising_error": 0.42, "class_word_error": 0.44}, "bad", ("pocket cannot generate images like these",)),
        ({"error_removed": 28.0, "clip_i": 0.82, "clip_t": 0.1}, "bad", ("do not show a cat",)),
        ({"error_removed": 1.0, "clip_t": 0.1}, "bad", ("do not show a cat", "only 1.0 % better")),
        ({"clip_i": None, "clip_t": None, "clip_i_real": None}, "good", ()),
    ],
)
def test_what_is_outside_its_range_decides_and_the_worst_is_named_first(scores, grade, words):
    found = judged(**scores)
    assert found.grade == grade
    assert len(found.reasons) == len(words)
    assert all(word in reason for word, reason in zip(words, found.reasons, strict=True))
    assert found.words == (f"{grade}: {'; '.join(found.reasons)}" if words else "good")


def test_without_ranges_or_without_scores_there_is_no_verdict():
    assert judged(usual={}, error_removed=-50.0, clip_t=0.0) is None
    assert judged(error_removed=None) is None


@pytest.mark.parametrize("name", USUAL)
def test_a_score_without_a_range_is_not_judged(name):
    worst = Scores(
        error_removed=-9.0, clip_i=-1.0, clip_t=-1.0, clip_i_real=-1.0, denoising_error=9.0, class_word_error=99.0
    )
    with_range, without = (
        verdict(worst, usual, class_word="cat", base="pocket")
        for usual in (USUAL, {key: limits for key, limits in USUAL.items() if key != name})
    )
    assert len(without.reasons) == len(with_range.reasons) - 1


def test_before_a_training_run_only_images_and_class_word_are_judged():
    scores = replace(USUAL_SCORES, error_removed=None, clip_i=None, clip_t=None, denoising_error=0.5, clip_i_real=0.0)
    assert [finding.reason for finding in strange(scores, USUAL, class_word="cat", base="pocket")] == [
        "unlike-base",
        "mixed-images",
    ]


@pytest.mark.parametrize(
    ("clip_i", "with_class", "grade"),
    [(0.31, 0.4, "weak"), (0.31, 0.32, "good"), (0.4, 0.6, "good"), (0.31, None, "good")],
)
def test_a_concept_whose_images_are_less_like_its_own_than_the_class_words_is_weak(clip_i, with_class, grade):
    found = verdict(
        replace(USUAL_SCORES, clip_i=clip_i), USUAL, class_word="cat", base="pocket", clip_i_class=with_class
    )
    assert (found.grade, len(found.reasons)) == (grade, int(grade == "weak"))
