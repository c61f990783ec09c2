"""Every stage learns and logs; what is there is not made again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from workshop import losses, run

from pocket.errors import PocketError
from pocket.judge.report import Judgement, judged
from pocket.judge.table import Report
from pocket.training import models, recipes
from pocket.training.clip import clip_loss
from pocket.training.learner import follow_
from pocket.training.plan import ALL
from pocket.training.render import captions, coverage, render, scenes_id, training_scene
from pocket.training.tokenizer import words
from pocket.training.unet import (
    alphas_cumprod,
    average_decay,
    loss_weight,
    noise_steps,
    samples_seen,
    subject_weight,
    without_place,
)
from pocket.training.vae import vae_loss
from pocket.training.work import Work, read_json, read_state, write_json
from pocket.weights import load_tokenizer
from pocket.world.scenes import covered

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]


def falls(values: list[float], still: list[float]) -> bool:
    """In the last third the loss is 3 % below that of a model that does not learn, on the same samples."""
    third = len(values) // 3
    return np.mean(values[-third:]) < 0.97 * np.mean(still[-third:])


@pytest.mark.parametrize("stage", ["vae", "clip", "unet"])
def test_the_loss_of_a_stage_falls(work, stage):
    """The stage runs twice from the same new weights on the same samples, at rate 0 and at its own rate."""
    told = []
    for rate_scale in (0.0, 1.0):
        (work / f"{stage}.safetensors").unlink(missing_ok=True)
        (work / "log.jsonl").unlink()
        run(work, stage, rate_scale=rate_scale, tiny_steps=6)
        told.append(losses(work, stage))
    still, moving = told
    assert len(still) == len(moving) == 6
    assert moving[0] == pytest.approx(still[0], rel=1e-4)
    assert falls(moving, still)
    assert not falls(still, still)


def test_what_was_trained_is_drawn_packed_and_judged(work):
    """The end of a plan: unet, sheet, pack; stock diffusers loads the folder and the judge judges it."""
    run(work, "unet", "sheet", "pack", tiny_steps=2)
    assert samples_seen(Work(folder=work)) == 2 * 8
    assert list((work / "samples").glob("unet-*.png"))
    weights = work / "weights"
    traces = [path for path in weights.rglob("*.json") if re.search(str(work), path.read_text(encoding="utf-8"))]
    assert not traces
    *_, report = judged(Judgement(folder=weights, steps=1, limit=3, quick=True, sheet=work / "sheet.png"))
    assert isinstance(report, Report)
    assert {"right thing", "right place", "retrieval R@1", "VAE, faces", "variety of place"} <= {
        row.name for row in report.rows
    }
    with Image.open(work / "sheet.png") as sheet:
        assert sheet.width > 128


def test_every_event_is_in_the_log_with_its_speed(work):
    events = run(work, "unet", tiny_steps=3)
    lines = [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()][-len(events) :]
    assert [line["text"] for line in lines] == [event.text for event in events]
    assert all(line["samples_per_s"] > 0 for line in lines if "loss" in line)


def test_scenes_are_kept_for_four_rounds_and_then_drawn_anew(tmp_path):
    work = Work(folder=tmp_path)
    list(render(work, n_scenes=70, seen=0, seed=1))
    old = captions(work)
    (event,) = render(work, n_scenes=70, seen=recipes.ROUNDS * 70 - 1, seed=1)
    assert "kept" in event.text
    list(render(work, n_scenes=70, seen=recipes.ROUNDS * 70, seed=1))
    assert captions(work) != old


def test_latents_are_encoded_anew_only_for_another_encoder(work):
    before = (work / "z.npy").stat().st_mtime_ns
    run(work, "latents")
    run(work, "vae", "latents", decoder_only=True, tiny_steps=1)
    assert (work / "z.npy").stat().st_mtime_ns == before
    run(work, "vae", "latents", tiny_steps=1)
    assert (work / "z.npy").stat().st_mtime_ns != before


def test_training_the_decoder_alone_keeps_the_encoder_and_the_scale(work):
    tensors, notes = read_state(work / models.VAE_STATE)
    run(work, "vae", decoder_only=True, tiny_steps=1)
    after, notes_after = read_state(work / models.VAE_STATE)
    moved = {key.split(".")[1] for key in tensors if key.startswith("model.") and not tensors[key].equal(after[key])}
    assert "decoder" in moved
    assert not moved & {"encoder", "quant_conv"}
    assert notes_after["scale"] == notes["scale"]


def test_training_the_image_tower_alone_keeps_the_text_tower(work):
    tensors, _ = read_state(work / models.CLIP_STATE)
    run(work, "clip", image_tower_only=True, tiny_steps=1)
    after, _ = read_state(work / models.CLIP_STATE)
    moved = {key.split(".")[1] for key in tensors if key.startswith("model.") and not tensors[key].equal(after[key])}
    assert "vision_model" in moved
    assert "text_model" not in moved  # the projection may move: the denoiser does not read it


def test_a_denoiser_that_was_lent_learns_gently_and_goes_on_so(work, tmp_path):
    """Without its optimizer the full rate would undo what it knows; one that was trained here keeps the full rate."""
    run(work, "unet", "pack", tiny_steps=1)
    lent = tmp_path / "lent"
    for folder, n, peak in ((work, 96, recipes.tiny(recipes.UNET).peak), (lent, 24, recipes.UNET_GOES_ON)):
        for _ in range(2):
            run(folder, "render", "latents", "unet", init=work / "weights", tiny_steps=1, n_scenes=n)
            assert read_state(folder / models.UNET_STATE)[1]["peak"] == peak


def test_the_whole_plan_skips_what_an_earlier_call_finished(work):
    """Half of the plan is on record: the next call does the other half, and a third one says that all is done."""
    write_json(work / "plan.json", {"spent": {"vae": 5.0}, "done": list(ALL[:5])})
    events = run(work, tiny_steps=1)
    assert {event.stage for event in events} == {"unet", "sheet", "pack"}
    with pytest.raises(PocketError, match="is done"):
        run(work, tiny_steps=1)


def test_a_stage_without_its_inputs_says_what_to_run(tmp_path):
    with pytest.raises(PocketError, match="run the stage"):
        run(tmp_path, "pack")
    with pytest.raises(PocketError, match=r"model_index\.json"):
        run(tmp_path, "pack", init=tmp_path / "nowhere")


def test_every_word_of_the_world_is_one_token_and_any_text_comes_back(trained_work):
    tokenizer = load_tokenizer(trained_work / "tokenizer")
    assert [word for word in words() if len(tokenizer.tokenize(word)) != 1] == []
    for text in ("a zebra's café, 3 €", "naïve 日本"):
        pieces = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
        assert tokenizer.unk_token not in pieces[1:-1]


def test_the_vocabulary_has_the_tokens_of_the_embedded_base(trained_work):
    packed = ROOT / "cnsctl/bases/pocket/tokenizer"
    if not packed.is_dir():
        pytest.skip("no embedded base in this checkout")
    mine, theirs = (folder / "tokenizer.json" for folder in (trained_work / "tokenizer", packed))
    mine, theirs = (json.loads(path.read_text(encoding="utf-8"))["model"] for path in (mine, theirs))
    assert set(mine["vocab"]) == set(theirs["vocab"])
    assert {tuple(m) for m in mine["merges"]} == {tuple(m) for m in theirs["merges"]}


def test_most_steps_fall_where_the_layout_is_decided():
    t = noise_steps(4096, torch.Generator().manual_seed(1))
    assert (int(t.min()), int(t.max())) == (0, 999)
    assert (t < 300).float().mean().item() == pytest.approx(0.30, abs=0.01)


def test_the_weight_of_a_step_does_not_starve_high_noise():
    weight = loss_weight(alphas_cumprod())
    assert weight[-1].item() == pytest.approx(1, abs=1e-3)
    assert weight[0].item() < 0.1
    assert weight.max().item() <= 2


def test_errors_count_more_where_subjects_stand():
    """1 + extra times as much in a full cell; the mean stays 1, so that learning rates keep their meaning."""
    coverage = torch.rand(4, 16, 16)
    coverage[0, 0, 0], coverage[0, 0, 1] = 0, 1
    weight = subject_weight(coverage, 3.0)
    assert weight.mean().item() == pytest.approx(1, abs=1e-5)
    assert (weight[0, 0, 1] / weight[0, 0, 0]).item() == pytest.approx(4, rel=1e-5)
    assert subject_weight(coverage, 0.0).unique().tolist() == [1.0]
    assert subject_weight(torch.zeros(2, 16, 16), 3.0).unique().tolist() == [1.0]


def test_training_reads_where_subjects_stand(work):
    """Each cell of a scene holds the share of its pixels that a subject covers."""
    cells, n = coverage(Work(folder=work)), len(captions(Work(folder=work)))
    assert cells.shape == (n, 16, 16)
    for i in range(0, n, 7):
        mask = covered(training_scene(scenes_id(Work(folder=work)), i, n))
        assert mask[:8, 8:16].mean() * 255 == pytest.approx(cells[i, 0, 1], abs=0.51)
        assert mask.mean() * 255 == pytest.approx(cells[i].mean(), abs=0.51)


def test_the_vae_loss_asks_for_more_near_edges():
    x = torch.full((1, 3, 32, 32), -1.0)
    x[..., 16:] = 1.0
    flat, edge = x.clone(), x.clone()
    flat[..., 4:6] += 0.5
    edge[..., 15:17] += 0.5
    z = torch.zeros(1, 8, 4, 4)
    assert vae_loss(edge, x, z, z)[0] > vae_loss(flat, x, z, z)[0] > vae_loss(x, x, z, z)[0] == 0


def test_captions_of_the_same_words_are_not_held_against_each_other():
    vectors = torch.eye(3)[[0, 0, 1]]
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    told = clip_loss(vectors, vectors, same, torch.tensor(50.0))
    assert told < clip_loss(vectors, vectors, torch.eye(3).bool(), torch.tensor(50.0)) + 1e-6
    assert clip_loss(vectors, vectors.roll(1, 0), torch.eye(3).bool(), torch.tensor(50.0)) > 10


def test_a_near_miss_costs_as_much_as_it_is_near():
    """Texts after the captions count against a picture, unless they are its own words."""
    vectors, scale = torch.eye(3, 6), torch.tensor(10.0)
    own, none = torch.eye(3).bool(), torch.zeros(3, 1).bool()
    near, same = (functional.normalize(vectors[:1] + shift, dim=-1) for shift in (0.2, 0.0))

    def loss(text, marked):
        return clip_loss(vectors, torch.cat([vectors, text]), torch.cat([own, marked], 1), scale)

    assert clip_loss(vectors, vectors, own, scale) < loss(near, none) < loss(same, none)
    own_words_far_off = loss(-same, torch.tensor([[True], [False], [False]]))
    assert own_words_far_off > loss(-same, none)


def test_latents_of_other_scenes_or_another_encoder_are_not_learned_from(work):
    """Captions of new scenes would be learned with the pictures of old ones, and nothing would look wrong."""
    drawn = read_json(work / "drawn.json")
    write_json(work / "drawn.json", {**drawn, "offset": drawn["offset"] + 1})
    with pytest.raises(PocketError, match="of other scenes"):
        run(work, "unet", tiny_steps=1)
    write_json(work / "drawn.json", drawn)
    run(work, "vae", tiny_steps=1)
    with pytest.raises(PocketError, match="another encoder"):
        run(work, "unet", tiny_steps=1)


def test_texts_are_encoded_once_and_anew_for_another_text_tower(work):
    run(work, "unet", tiny_steps=1)
    written = (work / "features.npy").stat().st_mtime_ns
    run(work, "unet", tiny_steps=1)
    assert (work / "features.npy").stat().st_mtime_ns == written
    run(work, "clip", "unet", tiny_steps=1)
    assert (work / "features.npy").stat().st_mtime_ns != written


def test_the_average_remembers_a_tenth_of_the_steps():
    """From weights that are 1 in the first nine tenths and 0 after, little is left."""
    for steps in (200, 2000):
        average = 0.0
        for step in range(steps):
            average += (1 - average_decay(step)) * (float(step < 0.7 * steps) - average)
        assert 0 < average < 0.1
    assert average_decay(0) == 0
    assert average_decay(10**6) == 0.9995


def test_the_average_moves_by_its_share():
    model = torch.nn.Linear(2, 1, bias=False)
    average = {"weight": torch.zeros(1, 2)}
    with torch.no_grad():
        model.weight.fill_(1.0)
    follow_(average, model, 0.75)
    assert average["weight"].tolist() == [[0.25, 0.25]]


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("a dog on a beach", "a dog"),
        ("a picture of a cat on an orange background", "a picture of a cat"),
        ("a dog and an owl at night", "a dog and an owl"),
        ("a beach", "a beach"),
    ],
)
def test_a_caption_can_lose_its_place(text, bare):
    assert without_place(text) == bare
