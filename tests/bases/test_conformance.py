"""What holds for every family of base models, on its tiny models. To add a family, add its makers to `MODELS`."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tiny
import torch
from commands import at, cnsctl
from engine_samples import generated, job, named, overlay, prompt, same_delta, states, synthetic, trained

from cnsctl.api import Run
from cnsctl.app.export import ANY_FAMILY
from cnsctl.bases import base_folder, registry
from cnsctl.concept import Mode
from cnsctl.engine import lora_effect
from cnsctl.engine.generate import NO_TEXT, Request, generate_images
from cnsctl.engine.overlay import EMPTY, text_keys_values
from cnsctl.engine.proof import prove, record
from cnsctl.engine.train import train
from cnsctl.engine.trainer import Trainer
from cnsctl.export_formats import ExportFormat
from cnsctl.metrics.forgetting import psnr

MODELS = {
    "sd1": tiny.make_base,
    "sdxl": tiny.make_sdxl,
    "sdxl-v": lambda path: tiny.make_sdxl(path, prediction="v_prediction", zero_snr=True, force_zeros=False),
    "pixart": tiny.make_pixart,
}

REX = prompt("a ", named("rex"), " in the snow")


def test_every_family_is_here():
    assert {f.name for f in registry.FAMILIES} == {name.split("-")[0] for name in MODELS}


@pytest.fixture(scope="module", params=MODELS)
def folder(request, tmp_path_factory):
    return MODELS[request.param](tmp_path_factory.mktemp("families") / request.param)


@pytest.fixture(scope="module")
def base(folder):
    return loaded(folder)


def loaded(folder, dtype=torch.float32):
    return registry.load(base_folder.open_folder(folder), device=torch.device("cpu"), dtype=dtype, hash_weights=True)


@cache
def stock(folder):
    from diffusers import DiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("negative", "guidance", "size"), [(None, 1.0, (32, 32)), (None, 4.0, (48, 32)), ("a red hat", 4.0, (48, 32))]
)
def test_images_are_those_of_the_stock_pipeline(folder, base, negative, guidance, size):
    """At least 50 dB; the width differs from the height, so that they cannot be exchanged."""
    width, height = size
    settings = replace(base.generate_defaults, steps=4, guidance_scale=guidance, width=width, height=height)
    noise = torch.randn((1, 4, height // 2, width // 2), generator=torch.Generator().manual_seed(5))
    options = {"use_resolution_binning": False, "clean_caption": False} if base.family == "pixart" else {}
    if negative is not None or base.family != "pixart":
        options["negative_prompt"] = negative
    theirs = stock(folder)(
        "a dog on the beach", latents=noise, width=width, height=height, num_inference_steps=4,
        guidance_scale=guidance, generator=torch.Generator().manual_seed(6), output_type="np", **options,
    ).images[0]  # fmt: skip
    asked = Request(
        prompt=prompt("a dog on the beach"), seed=5, negative=NO_TEXT if negative is None else prompt(negative)
    )
    ((_, ours),) = generate_images(base, EMPTY, [asked], settings)
    assert ours.shape == (height, width, 3)
    assert psnr(ours, (theirs * 255).round().astype(np.uint8)) >= 50


def test_a_concept_changes_nothing_but_images_that_name_it(base):
    """No weight, no processor, no image without the concept: bit for bit."""
    parts = [base.components.denoiser, base.components.vae, *base.components.texts.modules]
    before = [{name: p.clone() for name, p in part.named_parameters()} for part in parts]
    sites, stock_processors = base.stacked_sites.clone(), [layer.attention.processor for layer in base.layers]
    plain = generated(base, EMPTY, prompt("a dog"))
    for mode in (Mode.TOKEN, Mode.PROMPT):
        concepts = overlay(mode, rex=synthetic(base, 1), tom=synthetic(base, 2))
        assert np.array_equal(generated(base, concepts, prompt("a dog")), plain)
        alone = generated(base, overlay(mode, rex=synthetic(base, 1)), REX)
        assert np.array_equal(generated(base, concepts, REX), alone)
        assert not np.array_equal(alone, plain)
    trained(base, job(base, mode=Mode.TOKEN))
    for part, state in zip(parts, before, strict=True):
        assert all(torch.equal(p, state[name]) for name, p in part.named_parameters())
        assert all(p.grad is None for p in part.parameters())
    assert torch.equal(base.stacked_sites, sites)
    assert [layer.attention.processor for layer in base.layers] == stock_processors


@pytest.mark.parametrize("mode", Mode)
def test_training_reads_the_keys_and_values_that_generating_reads(base, mode):
    """With biases, pooled text and mask; after the neurons have moved."""
    trainer = Trainer(base, job(base, mode=mode, steps=4, warmup=0.5))
    mask = {site: torch.arange(0, W.numel(), 7) for site, W in base.sites.items()}
    trainer.train_on(mask)
    for _ in range(2):
        trainer.step()
    text = trainer.texts[0][1]
    with torch.no_grad():
        ours, read = trainer._keys_values([text, text])
    concept = synthetic(base, 1)
    values = trainer.values.by_site()
    concept = replace(
        concept,
        vectors={e: v.detach() for e, v in trainer.vectors.items()},
        indices=mask,
        values={s: v.detach() for s, v in values.items()},
    )
    acting = overlay(mode, rex=concept)
    features, theirs = text_keys_values(base, acting, acting.splice(base, text.prompt))
    for site, kv in theirs.items():
        assert torch.allclose(ours[site][1:], kv, atol=1e-4), site
    for name in ("pooled", "mask"):
        mine, wanted = getattr(read, name), getattr(features, name)
        assert (mine is None) == (wanted is None)
        assert mine is None or torch.allclose(mine[1:].float(), wanted.float(), atol=1e-5)


def test_a_token_embedding_of_every_text_encoder_is_trained(base):
    trainer = Trainer(base, job(base, steps=4, warmup=1.0))
    before = {e: v.detach().clone() for e, v in trainer.vectors.items()}
    trainer.step()
    assert set(before) == set(base.vector_widths)
    assert all(not torch.equal(before[e], v) for e, v in trainer.vectors.items())


def test_training_images_need_not_be_square(base):
    wide = replace(job(base, steps=3), latents=torch.randn((2, 4, 16, 24), generator=torch.Generator().manual_seed(1)))
    assert np.isfinite(trained(base, replace(wide, texts=wide.texts[:2])).final_loss)


@pytest.mark.parametrize("folder", ["sd1", "sdxl", "pixart"], indirect=True)
@pytest.mark.parametrize("mode", [Mode.TOKEN, Mode.MERGED])
def test_a_resumed_run_ends_bit_identical(base, mode):
    a_job = job(base, mode=mode, steps=4)
    whole = trained(base, a_job)
    for state in states(base, a_job, stops=(1, 3)):
        assert same_delta(Run(train(base, a_job, resume=state)).result().delta, whole.delta)


def test_the_proof_holds_and_fails_on_every_altered_input(folder, base):
    """Every weight and buffer of what reads text, one number each, and the inputs that a prompt brings."""
    concepts = overlay(Mode.TOKEN, rex=synthetic(base, 1))
    recorded = record(base, concepts, "rex", [REX])
    assert prove(base, concepts, "rex", recorded).unchanged
    other = overlay(Mode.TOKEN, rex=synthetic(base, 2))
    assert set(prove(base, other, "rex", recorded).reasons) >= {"its token changed", "other deltas act on it"}
    fresh = loaded(folder)
    read = {
        **{f"text {i}": m for i, m in enumerate(fresh.components.texts.modules)},
        "denoiser": fresh.components.denoiser,
    }
    for part, module in read.items():
        tables = [p for n, p in module.named_parameters() if p.ndim == 2 and "embed" not in n and "shared" not in n]
        weight = max(tables, key=torch.Tensor.numel) if part != "denoiser" else fresh.sites[next(iter(fresh.sites))]
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.mul_(1.01)
        assert not prove(fresh, concepts, "rex", recorded).unchanged, part
        with torch.no_grad():
            weight.copy_(kept)
    assert prove(fresh, concepts, "rex", recorded).unchanged
    if fresh.family == "sdxl":  # pooled text reaches the denoiser beside cross-attention
        projection = fresh.components.texts.modules[1].text_projection.weight
        with torch.no_grad():
            projection.mul_(1.01)
        assert prove(fresh, concepts, "rex", recorded).reasons == ("K or V moved",)


def test_a_base_in_half_precision_generates_and_proves(folder, base):
    half = loaded(folder, torch.bfloat16)
    assert half.fingerprint == base.fingerprint
    concepts = overlay(Mode.TOKEN, rex=synthetic(half, 1))
    recorded = record(half, concepts, "rex", [REX])
    assert prove(half, concepts, "rex", recorded).unchanged
    assert psnr(generated(half, concepts, REX), generated(base, overlay(Mode.TOKEN, rex=synthetic(base, 1)), REX)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["sdxl", "pixart"], indirect=True)  # that of sd1 is tests/cli/test_job.py
def test_the_whole_job(folder, tmp_path, images_of_two, unmeasured, monkeypatch):
    """Through the command line: init, add, score, gen, verify, eval, export, rm; two concepts in one image."""
    for name in ("calibration_prompts", "measured_prompts"):  # a few are enough to run
        some = getattr(lora_effect, name)
        monkeypatch.setattr(lora_effect, name, lambda *a, some=some: some(*a)[::40])
    store, out = at(tmp_path / "store"), tmp_path / "out"
    assert cnsctl("init", "--base", folder, *store).code == 0
    for name in ("dog", "hat"):
        done = cnsctl("add", name, images_of_two / name, "--class", name, "--steps", 3, *store)
        assert done.code == 0, done.err
    score = cnsctl("score", "cat", images_of_two / "dog", "--class", "cat", "--steps", 3, "--json", *store)
    assert score.code == 0, score.err
    done = cnsctl("gen", "<dog> wearing <hat>", "a cat", "--width", 48, "--seed", 5, "-o", out, *store)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 2
    assert cnsctl("verify", *store).code == 0
    measured = cnsctl("eval", "--json", *store).json
    assert all(set(c["forgetting"].values()) <= {0.0, None} for c in measured["concepts"])
    assert (measured["drift"]["changed"], measured["drift"]["max_abs"]) == (0, 0)
    for form in ExportFormat:
        done = cnsctl("export", "dog", "hat", "--format", form, "-o", out / form, *store)
        if folder.name == "pixart" and form not in ANY_FAMILY:
            assert done.code == 2
            assert f"no {form} for a concept of the family pixart" in done.err
        else:
            assert done.code == 0, done.err
    made = cnsctl("init", "--base", out / "checkpoint", *at(tmp_path / "of a checkpoint"))
    assert made.code == 0, made.err
    assert cnsctl("rm", "dog", "-y", *store).code == 0
    assert cnsctl("ls", "-q", *store).out == "hat\n"
