"""`demo`: two concepts, what the second one changed of the first, one sheet, and the same again without work."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import cnsctl
from PIL import Image

from cnsctl.app import demo
from cnsctl.app.demo_sheet import CHANGED, Compared, Row, laid_out, sheet, strips
from cnsctl.bases.loaded import LoadedBase
from cnsctl.results import DemoResult, Verified

GREY = np.full((128, 128, 3), 120, np.uint8)


@pytest.fixture
def sampled(monkeypatch):
    """The images that are generated."""
    seen = []
    honest = LoadedBase.sample

    def sample(self, settings, generators):
        seen.append(settings.steps)
        return honest(self, settings, generators)

    monkeypatch.setattr(LoadedBase, "sample", sample)
    return seen


@pytest.mark.slow
def test_the_demo_trains_compares_and_shows_once(package, unmeasured, tmp_path, sampled, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cnsctl"])
    line = ("demo", "-o", "my demo", "--steps", 3, "--json")
    first = cnsctl(*line)
    assert first.code == 0, first.err
    result = first.lines[-1]
    assert (result["type"], result["concepts"]) == ("result", ["dog", "hat"])
    assert (result["bytes_compared"], result["bytes_differ"]) == (2 * 32 * 32 * 3, 0)
    assert [(row["name"], row["unchanged"]) for row in result["verified"]] == [("dog", True), ("hat", True)]
    types = [one["type"] for one in first.lines]
    assert (types.count("selected"), types.count("sheet")) == (2, 1)
    whole = len(sampled)
    assert whole == 1 + 2 + 12  # the estimate, <dog> before <hat>, everything after
    assert len(list(Path(result["images"]).iterdir())) == 14
    with Image.open(result["sheet"]) as shown:
        assert (shown.format, shown.width <= 880) == ("PNG", True)
        before = shown.tobytes()

    again = cnsctl(*line)
    assert "selected" not in [one["type"] for one in again.lines]
    assert again.lines[-1] == result
    assert len(sampled) == whole
    with Image.open(result["sheet"]) as shown:
        assert shown.tobytes() == before

    printed = cnsctl(*line[:-1])
    assert "0 of 6,144 bytes differ" in printed.out
    assert "verify: <dog> unchanged, <hat> unchanged" in printed.out
    commands = printed.out.split("next:\n")[1].splitlines()
    assert len(commands) == 3
    for command in commands:
        name, *words = shlex.split(command)
        done = cnsctl(*words)
        assert (name, done.code) == ("cnsctl", 0), (command, done.err)

    shutil.rmtree(result["images"])  # the images from before <hat> are lost: nothing is claimed
    lost = cnsctl(*line)
    assert (lost.code, lost.lines[-1]["bytes_compared"], lost.lines[-1]["bytes_differ"]) == (0, None, None)


def compared(differ):
    after = GREY.copy()
    after.reshape(-1)[:differ] += 1
    return Compared(before=[GREY, GREY], after=[GREY, after])


def row(name):
    two = [GREY, GREY]
    texts = ["a place", "another"]
    return Row(
        shown=[name], class_words=[name], error_removed=1.0, training=two, base=two, base_prompts=texts, own=two,
        own_prompts=texts,
    )  # fmt: skip


def verified(name, *, unchanged):
    return Verified(
        name=name, unchanged=unchanged, moved=0.0, lost=None, forgotten=not unchanged, damaged=False, reasons=()
    )


def test_bytes_that_differ_are_counted_and_red_on_the_sheet():
    assert (compared(0).n_bytes, compared(0).differ, compared(5).differ) == (2 * GREY.size, [0, 0], [0, 5])
    proved = [verified("dog", unchanged=True)]
    for differ, red in ((0, False), (5, True)):
        shown = laid_out([row("dog"), row("hat")], compared(differ), proved)
        for pixels in (sheet(shown)[0], strips(shown)[2][1]):
            assert bool((pixels == CHANGED).all(axis=2).any()) is red


@pytest.mark.parametrize(("differ", "unchanged", "fails"), [(0, True, False), (3, True, True), (0, False, True)])
def test_a_proof_that_fails_ends_with_an_error(differ, unchanged, fails):
    result = DemoResult(
        store="s", sheet="s.png", images="i", concepts=("dog", "hat"), bytes_compared=9, bytes_differ=differ,
        verified=(verified("dog", unchanged=unchanged),),
    )  # fmt: skip
    assert (demo.problem(result) is not None) is fails


def test_an_estimate_is_in_round_numbers():
    assert [demo.roughly(s) for s in (3, 44, 62, 100, 200)] == [
        "about 10 seconds", "about 40 seconds", "about 1 minute", "about 2 minutes", "about 3 minutes",
    ]  # fmt: skip
