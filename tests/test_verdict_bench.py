"""The benchmark of the verdict: ranges come from what they do not judge, and pocket's own are its result."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from benchmarks.verdict.cases import calibration, cases
from benchmarks.verdict.photographs import write
from benchmarks.verdict.ranges import judged, usual
from benchmarks.verdict.tables import table
from cnsctl.bases.base_folder import POCKET, open_folder


def row(name, kind="good", *, error=0.2, removed=20.0, clip_t=0.5, trained=True):
    before = {"denoising_error": error, "class_word_error": error, "clip_i_real": 0.5, "psnr": 30.0}
    after = {"error_removed": removed, "clip_i": 0.5, "clip_t": clip_t, "class": {"clip_i": 0.1}} if trained else {}
    return {"case": name, "kind": kind, "word": "dog", "before": before, **after}


SETS = [row(f"set-{i}", "calibration", error=0.2 + 0.01 * i, trained=False) for i in range(5)]
GOOD = [row(f"good-{i}", removed=20.0 + i, clip_t=0.5 + 0.01 * i) for i in range(5)]


def test_a_good_run_is_judged_by_the_others_and_every_run_by_other_images():
    odd = row("odd", clip_t=0.2)  # inside ranges to which it belongs itself
    low, _ = usual(SETS, [*GOOD, odd])["clip_t"]
    assert low < 0.25
    found = judged([*GOOD, odd, row("photograph", "photograph", error=0.5)], SETS)
    assert found["odd"].grade == "bad"
    assert "cannot generate images like these" in found["photograph"].words
    assert found["good-2"].grade == "good"


def test_the_table_has_every_run_by_kind_and_its_verdict_without_numbers():
    rows = [row("photograph", "photograph", error=0.5), *GOOD]
    lines = list(table(rows, judged(rows, SETS)))
    assert [line.split("|")[1].strip() for line in lines[2:]] == [*(f"good-{i}" for i in range(5)), "photograph"]
    assert lines[-1].endswith("| bad; pocket cannot generate images like these |")


def test_no_run_trains_on_a_set_that_the_ranges_come_from(tmp_path):
    trained = {path for case in cases(tmp_path) for path in case.sources}
    sets = list(calibration())
    assert len(sets) == 18
    assert trained.isdisjoint(path for case in sets for path in case.sources)
    assert len({case.name for case in cases(tmp_path)}) == len(list(cases(tmp_path)))


def test_the_photographs_are_five_different_crops(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    write(Image.fromarray(pixels), tmp_path)
    images = [Image.open(path) for path in sorted(tmp_path.iterdir())]
    assert [image.size for image in images] == [(768, 768)] * 5
    assert len({image.tobytes() for image in images}) == 5


def test_pocket_has_a_range_for_each_score():
    assert json.loads((POCKET / "cnsctl.json").read_text())["usual"].keys() == usual(SETS, GOOD).keys()
    assert all(low < high for low, high in open_folder(POCKET).usual.values())
