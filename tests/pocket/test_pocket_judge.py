"""The judge counts what it says it counts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image

from pocket.judge.answers import all_texts, marks
from pocket.judge.denoising import denoising_errors
from pocket.judge.fidelity import face_box, unseen_scenes, vae_psnr
from pocket.judge.hands import rendered
from pocket.judge.prompts import GROUPS, captions_held_out, prompts, questions, quick_prompts
from pocket.judge.table import Report, Row, as_json, as_text
from pocket.judge.variety import cut, variety, variety_prompts
from pocket.training.recipes import SCHEDULE
from pocket.training.render import training_scene
from pocket.weights import load_tokenizer
from pocket.world import Draws, scene
from pocket.world.captions import Layout, caption

POCKET = Path(__file__).parents[2] / "cnsctl/bases/pocket"


def test_prompts_are_distinct_and_cover_every_group():
    texts = [p.text for p in prompts()]
    assert len(set(texts)) == len(texts)
    assert {p.group for p in prompts()} == {p.group for p in quick_prompts()} == set(GROUPS)
    assert set(quick_prompts()) < set(prompts())


@pytest.mark.slow
def test_no_training_scene_has_a_caption_that_the_judge_asks_for():
    """Some seeds would give one: the test finds them, so that it can fail."""
    asked = [seed for seed in range(900) if scene(Draws(seed)).caption in captions_held_out()]
    assert asked
    for seed in asked:
        assert training_scene(0, seed, 10_000).caption not in captions_held_out()


def test_training_scenes_are_otherwise_those_of_their_seeds():
    assert training_scene(40, 2, 100).caption == scene(Draws(42)).caption


def test_every_question_has_one_right_caption_among_others():
    for prompt in prompts():
        for question in questions(prompt.telling):
            assert question.options[0] == prompt.text
            assert len(set(question.options)) == len(question.options) > 1


def test_rendered_scenes_have_the_caption_asked_for():
    for i, prompt in enumerate(prompts()[::7]):
        assert rendered(prompt.telling, i).caption == prompt.text


def vectors(texts):
    """A different unit vector for every text."""
    return dict(zip(texts, torch.eye(len(texts)), strict=True))


def test_a_perfect_draughtsman_is_right_in_everything():
    asked = quick_prompts()
    read = vectors(all_texts(asked))
    found = marks(asked, torch.stack([read[p.text] for p in asked]), read)
    assert {share.value for share in found.values()} == {1.0}
    assert found["both things of a pair"].asked == sum(p.telling.layout is Layout.PAIR for p in asked)


def test_a_wrong_colour_costs_the_colour_and_nothing_else():
    asked = [p for p in prompts() if p.group == "colours"]
    read = vectors([*all_texts(asked), "nothing"])
    wrong = [replace(p.telling, subject=replace(p.telling.subject, main="red")) for p in asked]
    seen = torch.stack([0.9 * read[p.text] + read[caption(w)] for p, w in zip(asked, wrong, strict=True)])
    found = marks(asked, seen, read)
    red = sum(p.telling.subject.main == "red" for p in asked)
    assert found["colour"].right == red < found["colour"].asked
    assert found["thing"].value == found["place"].value == 1.0
    assert found["everything"].right == red


def test_one_right_thing_of_two_is_not_a_pair():
    asked = [p for p in prompts() if p.group == "pairs"]
    read = vectors(all_texts(asked))
    other = [q.options[1] for p in asked for q in questions(p.telling) if q.slot == "second thing"]
    seen = torch.stack([0.9 * read[p.text] + read[o] for p, o in zip(asked, other, strict=True)])
    found = marks(asked, seen, read)
    assert found["thing"].value == 1.0
    assert found["both things of a pair"].value == 0.0


class Vae:
    """Gives back what it is given, moved by a constant."""

    def __init__(self, error):
        self.error = error

    def encode(self, x):
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: x))

    def decode(self, z):
        return SimpleNamespace(sample=z * (1 - self.error))


def test_psnr_is_infinite_for_an_identity_and_falls_with_the_error():
    scenes = unseen_scenes(24)
    perfect, good, bad = (vae_psnr(Vae(error), scenes) for error in (0.0, 0.02, 0.1))
    assert perfect.whole > 100 > good.whole > bad.whole
    assert perfect.faces > 100 > good.faces > bad.faces
    assert bad.pair_faces < good.pair_faces


class Still:
    """A pipeline whose pictures are all nothing in latents, so that what is noise and what v is follow from x alone."""

    def __init__(self, tokenizer, said):
        self.tokenizer, self.said = tokenizer, said
        self.scheduler = DDPMScheduler(**SCHEDULE)
        nothing = SimpleNamespace(mode=lambda: torch.zeros(self.count, 8, 16, 16))
        self.vae = SimpleNamespace(encode=self.encode, config=SimpleNamespace(scaling_factor=1.0))
        self.nothing = SimpleNamespace(latent_dist=nothing)

    def encode(self, x):
        self.count = len(x)
        return self.nothing

    def text_encoder(self, ids):
        return (torch.zeros(*ids.shape, 4),)

    def unet(self, x, t, _told):
        alphas = self.scheduler.alphas_cumprod[t][:, None, None, None]
        v = x * (alphas / (1 - alphas)).sqrt()
        return SimpleNamespace(sample=self.said(v))


def test_the_denoiser_s_error_is_none_if_it_is_right_and_counts_subjects_apart():
    tokenizer, scenes = load_tokenizer(POCKET / "tokenizer"), unseen_scenes(20)
    right, silent = (denoising_errors(Still(tokenizer, said), scenes) for said in (lambda v: v, torch.zeros_like))
    assert right.cells < 1e-9
    assert silent.cells == pytest.approx(0.5, abs=0.03)  # the mean of the signal's share
    assert list(silent.by_fifth) == sorted(silent.by_fifth, reverse=True)
    left = denoising_errors(Still(tokenizer, lambda v: v * (torch.arange(16) >= 8)), scenes)
    assert left.cells == pytest.approx(silent.cells / 2, rel=0.05)
    top = denoising_errors(Still(tokenizer, lambda v: v * (torch.arange(16) >= 4)[:, None]), scenes)
    assert top.subjects < 0.7 * top.cells  # subjects stand below


def test_a_face_lies_in_the_upper_part_of_its_subject():
    for found in unseen_scenes(60):
        for placed in found.placed:
            if (box := face_box(placed)) is not None:
                left, top, right, bottom = box
                assert placed.left <= left < right <= placed.left + placed.side
                assert placed.top < top < bottom < placed.top + placed.side * 0.85


def variety_scenes(telling, seeds):
    return [rendered(telling, 31 * seed).image for seed in seeds]


def test_rendered_scenes_vary_and_keep_their_colour():
    told = variety_prompts()
    found = variety((t.subject.main, variety_scenes(t, range(6))) for t in told)
    assert found.place > 2
    assert found.shape > 0.5
    assert found.shade > 2
    assert found.colour_kept == 1.0


def test_the_same_picture_ten_times_has_no_variety():
    telling = variety_prompts()[0]
    found = variety([("blue", variety_scenes(telling, [5]) * 10)])
    assert (found.place, found.shape, found.size, found.shade) == pytest.approx((0, 0, 0, 0), abs=1e-6)


def test_another_colour_is_not_kept():
    assert variety([("green", variety_scenes(variety_prompts()[0], range(3)))]).colour_kept == 0.0


def test_nothing_is_cut_out_of_an_empty_picture():
    assert cut(Image.new("RGB", (128, 128), (200, 30, 30)), "red") is None
    noise = np.random.default_rng(1).integers(190, 210, (128, 128, 3), dtype=np.uint8)
    assert cut(Image.fromarray(noise), "white") is None
    assert math.isnan(variety([("red", [Image.new("RGB", (128, 128))] * 2)]).place)


def report(**row):
    rows = (Row(name="right thing", drawn=0.5, rendered=0.8, unit="%", count=10), Row(name="VAE", drawn=29.5, **row))
    return Report(folder="w", quick=True, steps=25, guidance=3.0, device="cpu", rows=rows)


def test_shares_stand_beside_those_of_rendered_scenes_with_their_ratio():
    line = as_text(report(unit="dB")).splitlines()[4]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == ["right thing", "50.0 %", "80.0 %", "0.62", "10"]


def test_json_has_its_keys_and_no_nan():
    value = json.loads(as_json(report(rendered=float("nan"))))
    assert sorted(value) == ["device", "folder", "format", "guidance", "quick", "rows", "steps"]
    assert sorted(value["rows"][0]) == ["count", "drawn", "name", "ratio", "rendered", "unit"]
    assert value["rows"][0]["ratio"] == pytest.approx(0.625)
    assert value["rows"][1]["rendered"] is None
