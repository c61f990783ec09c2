"""Rules of generating, and agreement with the stock pipeline."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import combinations

import numpy as np
import pytest
import torch
from engine_samples import generated, named, overlay, prompt, synthetic

from cnsctl.bases import samplers
from cnsctl.concept import Mode
from cnsctl.engine.generate import NO_TEXT, Request, Texts, generate_images, generation
from cnsctl.engine.overlay import EMPTY, joined, stacked, text_keys_values
from cnsctl.metrics.forgetting import psnr
from cnsctl.settings import Sampler

PLAIN = prompt("a dog on a beach")
HERE = [s for s in Sampler if s is not Sampler.LMS or find_spec("scipy") is not None]
"""The samplers whose libraries are installed; tests/engine/test_samplers.py compares all with the stock pipeline."""


@cache
def stock_pipeline(folder):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, requires_safety_checker=False, torch_dtype=torch.float32, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock(folder, text: str, seed: int, steps: int, guidance: float, negative: str = "") -> np.ndarray:
    pipe = stock_pipeline(folder)
    generator = torch.Generator().manual_seed(seed)
    output = pipe(
        text, negative_prompt=negative, num_inference_steps=steps, guidance_scale=guidance, generator=generator
    )
    return np.asarray(output.images[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "guidance", "negative"),
    [*((n, *how) for n in ("tiny", "tiny_v") for how in ((1.0, ""), (3.0, ""), (3.0, "a red car"))),
     ("pocket", 3.0, "a red car")],
)  # fmt: skip
def test_images_agree_with_the_stock_pipeline_to_50_db(request, name, guidance, negative):
    base = request.getfixturevalue(name)
    theirs = stock(base.folder.path, "a dog on a beach", 7, 4, guidance, negative)
    settings = replace(base.generate_defaults, steps=4, guidance_scale=guidance)
    asked = Request(prompt=PLAIN, seed=7, negative=prompt(negative))
    ((_, ours),) = generate_images(base, EMPTY, [asked], settings)
    assert theirs.shape == ours.shape
    assert psnr(ours, theirs) >= 50
    if guidance > 1:  # the measure can fail: another text gives another image
        other = replace(asked, prompt=prompt("a castle at night"))
        assert psnr(next(generate_images(base, EMPTY, [other], settings))[1], theirs) < 50


def stock_latents(base, text: torch.Tensor, settings, generators) -> torch.Tensor:
    """The stock pipeline's own loop, with the base model's denoiser and the bound K and V."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=base.components.vae, text_encoder=None, tokenizer=None, unet=base.components.denoiser, safety_checker=None, feature_extractor=None,
        scheduler=samplers.make(settings, base.components.scheduler), requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    guided = settings.guidance_scale > 1
    height, width = (pixels // pipe.vae_scale_factor for pixels in (settings.height, settings.width))
    shape = (1, base.components.denoiser.config.in_channels, height, width)
    noise = torch.cat([torch.randn(shape, generator=g) for g in generators])
    output = pipe(
        prompt_embeds=text[-len(generators) :], negative_prompt_embeds=text[: len(generators)] if guided else None,
        latents=noise.to(base.device), num_inference_steps=settings.steps, guidance_scale=settings.guidance_scale, height=settings.height,
        width=settings.width, generator=list(generators), output_type="latent",
    )  # fmt: skip
    return output.images


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "guidance", "sampler"),
    [*(("tiny", 3.0, sampler) for sampler in HERE), *(("tiny_v", 1.0, sampler) for sampler in HERE[::4])],
)
def test_every_step_equals_the_stock_pipeline_bit_for_bit(request, name, sampler, guidance):
    base = request.getfixturevalue(name)
    settings = replace(base.generate_defaults, steps=5, guidance_scale=guidance, sampler=sampler)
    texts = [text_keys_values(base, EMPTY, EMPTY.splice(base, prompt(t))) for t in ("", "a dog", "the moon", "a hat")]
    texts = texts[:2] * (guidance > 1) + texts[2:]  # two images
    read = joined([text for text, _ in texts])
    seeded = [[torch.Generator().manual_seed(seed) for seed in (3, 4)] for _ in range(2)]
    with base.bind(stacked([kv for _, kv in texts]), read):
        theirs = stock_latents(base, read.x, settings, seeded[0])
        *_, last = base.sample(settings, seeded[1])
    assert torch.equal(last.latents, theirs)
    assert last.step == last.total


def test_pixels_equal_the_stock_pipeline_bit_for_bit(tiny):
    from diffusers.image_processor import VaeImageProcessor

    z = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(0)).to(tiny.device)
    with torch.no_grad():
        decoded = tiny.components.vae.decode(z / tiny.components.vae.config.scaling_factor).sample
    processor = VaeImageProcessor()
    (theirs,) = processor.numpy_to_pil(processor.postprocess(decoded, output_type="np"))
    assert np.array_equal(tiny.decode_latents(z[0]), np.asarray(theirs))


def test_two_runs_may_alternate_on_one_base_model(tiny):
    """Between two steps nothing is bound to the base model."""
    settings = replace(tiny.generate_defaults, steps=2)
    a, b = ([Request(prompt=prompt(t), seed=1)] for t in ("a dog", "the moon"))
    turns = zip(
        generation(Texts(tiny, settings), EMPTY, a, settings),
        generation(Texts(tiny, settings), EMPTY, b, settings),
        strict=True,
    )
    for own, image in zip((a, b), list(turns)[-1], strict=True):
        assert np.array_equal(image.pixels, next(generate_images(tiny, EMPTY, own, settings))[1])


def test_an_image_depends_on_its_seed_only(tiny):
    assert np.array_equal(generated(tiny, EMPTY, PLAIN, seed=1), generated(tiny, EMPTY, PLAIN, seed=1))
    assert not np.array_equal(generated(tiny, EMPTY, PLAIN, seed=1), generated(tiny, EMPTY, PLAIN, seed=2))


def test_an_image_does_not_depend_on_images_generated_before(tiny):
    settings = replace(tiny.generate_defaults, steps=2)
    requests = [Request(prompt=p, seed=s) for s in (1, 2) for p in (PLAIN, prompt("the moon"))]
    together = {(r.prompt.text, r.seed): p for r, p in generate_images(tiny, EMPTY, requests, settings)}
    for (text, seed), pixels in together.items():
        assert np.array_equal(pixels, generated(tiny, EMPTY, prompt(text), seed=seed))


def test_rows_of_one_batch_may_use_different_concepts(tiny):
    store = overlay(Mode.PROMPT, a=synthetic(tiny, 1), b=synthetic(tiny, 2))
    prompts = [prompt("a ", named("a")), prompt("a ", named("b")), PLAIN]
    settings = replace(tiny.generate_defaults, steps=2)
    requests = [Request(prompt=p, seed=seed) for seed, p in enumerate(prompts)]
    batch = [p for _, p in generate_images(tiny, store, requests, settings, batch=3)]
    alone = [generated(tiny, store, p, seed=seed) for seed, p in enumerate(prompts)]
    for i, pixels in enumerate(batch):  # the shape of a batch may change the last bits
        assert psnr(pixels, alone[i]) > 40 > max(psnr(pixels, alone[j]) for j in range(3) if j != i)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", HERE)
def test_every_sampler_generates_an_image_that_depends_on_its_seed(tiny, sampler):
    a, b, other = (generated(tiny, EMPTY, PLAIN, seed=s, sampler=sampler, steps=2) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert a.shape == (32, 32, 3)
    assert not np.array_equal(a, other)


ALIKE = [{Sampler.EULER_A, Sampler.DDPM}]
"""They step alike: x0 + (s/σ)²(x − x0) + s·√(1 − (s/σ)²)·noise, from the noise level σ to s."""


@pytest.mark.slow
def test_samplers_differ_by_far_more_than_rounding_except_names_of_one_update(tiny_v):
    images = {name: generated(tiny_v, EMPTY, PLAIN, seed=1, sampler=name, steps=6) for name in HERE[1:]}
    alike = [{one, other} for one, other in combinations(images, 2) if psnr(images[one], images[other]) > 65]
    assert alike == ALIKE


def test_width_and_height_decide_the_sides_of_an_image(tiny):
    assert generated(tiny, EMPTY, PLAIN, width=64, height=32).shape == (32, 64, 3)


def test_keys_and_values_are_computed_once_per_prompt(tiny, monkeypatch):
    from cnsctl.engine import generate

    calls = []
    honest = generate.text_keys_values
    monkeypatch.setattr(generate, "text_keys_values", lambda *a: calls.append(a[2].prompt) or honest(*a))
    settings = replace(tiny.generate_defaults, steps=2)
    list(generate_images(tiny, EMPTY, [Request(prompt=PLAIN, seed=s) for s in range(3)], settings))
    assert sorted(p.text for p in calls) == sorted([PLAIN.text, NO_TEXT.text])
