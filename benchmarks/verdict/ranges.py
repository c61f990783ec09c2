"""Usual ranges from measurements, and the verdicts that follow from them.

Ranges of scores of the images come from sets that no run trains on. Ranges of scores after a training come from the good
runs; a good run is judged by the ranges of the others, so no threshold is fitted to the run that it judges.

Owns the statistics; must not know how anything is measured.
"""

from __future__ import annotations

from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from cnsctl.metrics.verdict import verdict
from cnsctl.results import Scores, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = dict[str, Any]
Ranges = dict[str, tuple[float, float]]

OF_IMAGES, OF_RESULTS = 3.0, 2.0
"""Standard deviations from the mean to the limits: of the images, and of a trained concept."""


def scores_of(row: Row) -> Scores:
    """The scores of a run, or of a set of images that was not trained."""
    before = row["before"]
    return Scores(
        error_removed=row.get("error_removed"),
        clip_i=row.get("clip_i"),
        clip_t=row.get("clip_t"),
        clip_i_real=before["clip_i_real"],
        denoising_error=before["denoising_error"],
        class_word_error=before["class_word_error"],
    )


def usual(sets: Sequence[Row], good: Sequence[Row]) -> Ranges:
    """The table for `cnsctl.json`.

    Args:
        sets: measurements of images that the base model can generate, which no run trains on.
        good: runs that ended well.
    """
    results = [_numbers(scores_of(row)) for row in good]
    return of_images(sets) | {
        name: _range([row[name] for row in results], OF_RESULTS) for name in ("error_removed", "clip_i", "clip_t")
    }


def of_images(sets: Sequence[Row]) -> Ranges:
    """The ranges of what is known before a training run."""
    images = [_numbers(scores_of(row)) for row in sets]
    known = [name for name, value in images[0].items() if value is not None]
    return {name: _range([row[name] for row in images], OF_IMAGES) for name in known}


def judged(rows: Sequence[Row], sets: Sequence[Row]) -> Mapping[str, Verdict | None]:
    """The verdict on each run, by name; a good run is judged by the other good ones."""
    good = [row for row in rows if row["kind"] == "good"]
    return {
        row["case"]: verdict(
            scores_of(row),
            usual(sets, [other for other in good if other is not row]),
            class_word=row["word"],
            base="pocket",
            clip_i_class=row["class"]["clip_i"],
        )
        for row in rows
    }


def _numbers(scores: Scores) -> dict[str, float | None]:
    """By name of the range."""
    assert scores.class_word_error is not None
    assert scores.denoising_error is not None
    return {
        "denoising_error": scores.denoising_error,
        "class_word_share": scores.class_word_error / scores.denoising_error,
        "clip_i_real": scores.clip_i_real,
        "error_removed": scores.error_removed,
        "clip_i": scores.clip_i,
        "clip_t": scores.clip_t,
    }


def _range(values: Sequence[float | None], width: float) -> tuple[float, float]:
    numbers = [value for value in values if value is not None]
    mean, far = fmean(numbers), width * stdev(numbers)
    return (float(f"{mean - far:.3g}"), float(f"{mean + far:.3g}"))
