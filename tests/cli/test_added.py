"""The line after `add`: what was trained, how good it is, and what to type next."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest

from cnsctl import results
from cnsctl.cli import tables
from cnsctl.cli.streams import fitted

BASE = results.BaseModel(name="pocket", family="sd1", fingerprint="0" * 64, weights_kv=1, weights_denoiser=2)
GOOD = results.Verdict(grade="good", reasons=())
TRY = 'try: cnsctl gen "<dog> on a beach"'
BAD = results.Verdict(grade="bad", reasons=("the generated images do not show a dog: CLIP-T 0.195, usual 0.3 to 0.85",))


def added(*, removed=21.3, verdict=GOOD, others=3, changed=(), held_out=0, seconds=68.2):
    scores = results.Scores(error_removed=removed, clip_i=0.51, clip_t=0.48, measured_on=5, level="quick")
    concept = results.Concept(
        name="dog", class_word="dog", tokens=1, neurons=56064, share=0.058, share_denoiser=0.00257, bytes=175_890,
        created="2026-01-01T00:00:00Z", images=5, held_out=held_out, scores=scores, verdict=verdict, damaged=False,
    )  # fmt: skip
    return results.TrainResult(
        store="s", base=BASE, concept=concept, seconds=seconds, others=others, changed=changed, shared=0,
        shared_random=0, free=results.Free(neurons=1, share=0.5),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("case", "line"),
    [
        (
            {},
            (
                "trained <dog> in 68 s (176 KB): predicts your images 21 % better than plain dog (good for pocket); "
                "3 other concepts unchanged"
            ),
        ),
        (
            {"verdict": BAD, "others": 1},
            (
                "trained <dog> in 68 s (176 KB), bad: the generated images do not show a dog: CLIP-T 0.195, usual 0.3 to 0.85; "
                "1 other concept unchanged"
            ),
        ),
        (
            {"verdict": None, "others": 0, "held_out": 2, "seconds": 125.4},
            (
                "trained <dog> in 2 min 5 s (176 KB): predicts its held-out images 21 % better than plain dog "
                "(no verdict: pocket is not calibrated)"
            ),
        ),
        (
            {"removed": -3.0, "verdict": None, "changed": ("hat",)},
            (
                "trained <dog> in 68 s (176 KB): predicts your images 3 % worse than plain dog "
                "(no verdict: pocket is not calibrated); 1 of 3 other concepts moved: <hat>"
            ),
        ),
        ({"removed": None, "verdict": None, "others": 0}, "trained <dog> in 68 s (176 KB): not measured"),
    ],
)
def test_one_line_says_how_good_it_is_and_the_next_one_what_to_type_unless_it_is_bad(case, line):
    assert list(tables.added(added(**case))) == [line, *([] if case.get("verdict") is BAD else [TRY])]


def test_details_are_below_the_line():
    brief, full = list(tables.added(added())), list(tables.added_in_detail(added()))
    assert full[: len(brief)] == brief
    assert re.search(r"56,064 neurons.*\n.*CLIP-I 0\.510", "\n".join(full[len(brief) :]))


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 40, 24])
@pytest.mark.parametrize("case", [{}, {"verdict": BAD}])
def test_a_number_and_its_unit_stay_on_one_line(monkeypatch, columns, case):
    monkeypatch.setenv("COLUMNS", str(columns))
    line = next(iter(tables.added(added(**case))))
    lines = fitted(line, Screen()).splitlines()
    assert max(map(len, lines)) <= columns
    assert " ".join(part.strip() for part in lines) == line
    assert not any(re.search(r"\d$", part) and re.match(r"\s*[%A-Za-z]", after) for part, after in pairwise(lines))
