"""Verdicts and warnings by the usual ranges of a base model, through the real commands."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from commands import at, cnsctl
from PIL import Image
from tiny import EXAMPLES

from cnsctl import open_store
from cnsctl.app import judging
from cnsctl.bases.base_folder import POCKET, open_folder
from cnsctl.errors import BaseModelError

ADD = ("--class", "dog", "--steps", 2, "--no-preview", "--allow-worse")
ANY = [-1e9, 1e9]


@pytest.fixture
def calibrated(tiny_folder, tmp_path):
    """Makes an empty store on a tiny base model with these usual ranges."""

    def made(**usual):
        folder = shutil.copytree(tiny_folder, tmp_path / "base")
        file = folder / "cnsctl.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "usual": usual}))
        assert cnsctl("init", "--base", folder, *at(tmp_path / "store")).code == 0
        return tmp_path / "store"

    return made


def test_what_is_unusual_is_said_before_the_training_and_in_every_result(calibrated, images, tmp_path):
    store = calibrated(denoising_error=[0.0, 1e-6], error_removed=ANY)
    added = cnsctl("add", "cat", images, *ADD, *at(store))
    assert added.code == 0, added.err
    said = "cannot generate images like these: denoising error"
    before, _, after = added.err.partition("train the token embedding")
    assert f"warning: {open_store(store).base().base.name} {said}" in before
    assert "hint: for photographs" in before
    assert said not in after
    assert added.out.startswith("trained <cat> in ")
    assert f"bad: tiny {said}" in added.out
    assert "better than" not in added.out
    assert f"verdict: bad: tiny {said}" in cnsctl("show", "cat", *at(store)).out
    page = tmp_path / "page.html"
    measured = cnsctl("eval", "cat", "--no-images", "--html", page, *at(store))
    assert f"<cat>: bad: tiny {said}" in measured.out
    assert f"Bad: tiny {said}" in page.read_text()
    with open_store(store).load(device="cpu") as session:
        row = session.evaluate(images=False).concepts[0]
    assert row.verdict.grade == open_store(store).show("cat").concept.verdict.grade == "bad"
    assert row.denoising_error > 1e-6


def test_a_concept_in_all_usual_ranges_is_good_and_named_so(calibrated, images):
    store = calibrated(error_removed=ANY, denoising_error=[0.0, 1e9], class_word_share=[0.0, 1e9])
    added = cnsctl("add", "cat", images, *ADD, *at(store))
    assert "warning" not in added.err
    assert "than plain dog (good for tiny)\n" in added.out
    assert "verdict: good\n" in cnsctl("show", "cat", *at(store)).out


def test_a_base_model_without_ranges_gives_numbers_and_says_so(stocked):
    assert "verdict: none, the base model is not calibrated\n" in cnsctl("show", "dog", *at(stocked)).out
    measured = cnsctl("eval", "dog", "--no-images", *at(stocked))
    assert "no verdict: tiny is not calibrated\n" in measured.out
    assert cnsctl("show", "dog", "--json", *at(stocked)).json["concept"]["verdict"] is None


@pytest.mark.parametrize(
    "wrong", [3, {"clip_t": 0.3}, {"clip_t": [0.3]}, {"clip_t": [0.8, 0.3]}, {"clip_t": ["a", "b"]}]
)
def test_ranges_that_are_none_are_refused_by_the_name_of_their_file(tiny_folder, tmp_path, wrong):
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    (folder / "cnsctl.json").write_text(json.dumps({"usual": wrong}))
    with pytest.raises(BaseModelError, match=r'"usual" must have a lower and an upper number.*cnsctl\.json'):
        open_folder(folder)


def _photograph() -> np.ndarray:
    """Fur: what pocket has never seen, as an image of 128 × 128 pixels with detail at every scale."""
    rng = np.random.default_rng(0)
    layers = [
        np.asarray(Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize((128, 128)), np.float64)
        for n in (4, 8, 16, 32, 64)
    ]
    return (sum(layers) / len(layers)).astype(np.uint8)


@pytest.mark.parametrize(("what", "warned"), [("dog", False), ("robot", False), ("photograph", True)])
def test_pocket_warns_of_photographs_and_not_of_its_own_examples(pocket, monkeypatch, what, warned):
    monkeypatch.setattr(judging, "_usual", lambda _session: open_folder(POCKET).usual)
    pixels = (
        _photograph() if what == "photograph" else np.asarray(Image.open(EXAMPLES / what / "01.png").convert("RGB"))
    )
    job = SimpleNamespace(
        name="it", class_word="dog" if warned else what, latents=[pocket.encode_images(pixels[None])[0]]
    )
    events = list(judging.compared(SimpleNamespace(base=pocket), job))
    reasons = [getattr(event, "reason", "") for event in events]
    assert ("unlike-base" in reasons) == warned
