"""Rules of clip skip and of prompts that are longer than a text encoder reads at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny as models
import torch
from engine_samples import generated, named, overlay, prompt, synthetic

from cnsctl.bases import base_folder, registry
from cnsctl.bases.protocol import TextOptions
from cnsctl.concept import Mode
from cnsctl.engine.generate import Request, generate_images
from cnsctl.engine.overlay import EMPTY, text_keys_values
from cnsctl.errors import UsageError
from cnsctl.metrics.forgetting import psnr

LONG = TextOptions(long_prompts=True)
SENTENCE = "one two three four five six seven eight nine ten red blue green dog"


@pytest.fixture(scope="module")
def sdxl_folder(tmp_path_factory):
    return models.make_sdxl(tmp_path_factory.mktemp("text") / "sdxl")


@pytest.fixture(scope="module")
def sdxl(sdxl_folder):
    return registry.load(base_folder.open_folder(sdxl_folder), device=torch.device("cpu"), dtype=torch.float32)


def encoded(base, text, options):
    return base.encode([base.tokenize([text], options)], {}).x


def test_clip_skip_reads_an_earlier_layer_and_normalizes_it_as_the_last_one(tiny):
    model = tiny.components.texts.modules[0]
    text = tiny.tokenize(["a dog"])
    with torch.no_grad():
        states = model(torch.tensor([text.ids["text_encoder"]]), output_hidden_states=True).hidden_states
        expected = getattr(model, "text_model", model).final_layer_norm(states[-2])
        assert torch.equal(encoded(tiny, "a dog", TextOptions(clip_skip=1)), expected)
        assert not torch.allclose(encoded(tiny, "a dog", TextOptions()), expected, atol=1e-3)
    with pytest.raises(UsageError, match="clip skip is out of range: 2"):
        tiny.tokenize(["a dog"], TextOptions(clip_skip=2))


def test_clip_skip_of_sdxl_is_that_of_the_stock_pipeline(sdxl, sdxl_folder):
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(sdxl_folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    settings = replace(sdxl.generate_defaults, clip_skip=1, guidance_scale=1.0)
    noise = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(5))
    theirs = pipe(
        "a dog", latents=noise, num_inference_steps=settings.steps, guidance_scale=1.0, clip_skip=1, width=32, height=32,
        output_type="np",
    ).images[0]  # fmt: skip
    ((_, ours),) = generate_images(sdxl, EMPTY, [Request(prompt=prompt("a dog"), seed=5)], settings)
    assert psnr(ours, (theirs * 255).round().astype(np.uint8)) >= 50
    assert not np.array_equal(ours, generated(sdxl, EMPTY, prompt("a dog"), seed=5, guidance_scale=1.0, steps=3))


@pytest.mark.parametrize("name", ["tiny_v", "sdxl"])
def test_a_long_prompt_is_read_in_chunks_each_as_a_text_of_its_own(request, name):
    base = request.getfixturevalue(name)
    text = " ".join([SENTENCE] * 2)
    whole = base.tokenize([text], LONG)
    assert whole.lost == ""
    assert whole.chunks > 1
    length, words = base.components.texts.length, base.components.texts._ids(text)
    x = base.encode([whole], {}).x[0]
    found = []
    for i in range(whole.chunks):
        part = slice(i * length, (i + 1) * length)
        ids = {encoder: row[part] for encoder, row in whole.ids.items()}
        first = next(iter(ids.values()))
        assert (first[0], first.count(0)) == (0, 1)  # each begins with a start token
        found += [token for token in first[1:] if token != 1]
        alone = replace(whole, ids=ids, places=dict.fromkeys(ids, ()), length=length, chunks=1)
        assert torch.allclose(x[part], base.encode([alone], {}).x[0], atol=1e-5)
    assert found == words
    assert base.tokenize(["a dog"], LONG) == base.tokenize(["a dog"])


def test_a_concept_is_never_divided_between_chunks(tiny_v):
    concepts = overlay(Mode.TOKEN, rex=synthetic(tiny_v, 1))
    length = tiny_v.components.texts.length
    for words in range(10, 15):
        text = concepts.splice(tiny_v, prompt(" ".join(["one"] * words) + " ", named("rex"), " in the snow"), LONG)
        own = text.spans["rex"]
        assert len({position // length for position in own}) == 1
        assert list(own) == list(range(own[0], own[0] + len(own)))
        assert text.tokens.lost == ""
        features, kv = text_keys_values(tiny_v, concepts, text)
        rest = [i for i in range(features.x.shape[1]) if i not in own]
        for site, W in tiny_v.sites.items():
            assert torch.allclose(kv[site][0, rest], (features.x[0] @ W.T)[rest], atol=1e-5)
            assert not torch.allclose(kv[site][0, own[0]], features.x[0, own[0]] @ W.T, atol=1e-3)


@pytest.mark.parametrize("name", ["tiny_v", "sdxl"])
def test_images_of_long_prompts_differ_by_their_end_and_share_a_batch_with_short_ones(request, name):
    base = request.getfixturevalue(name)
    long, end = f"{SENTENCE} in a {SENTENCE}", f"{SENTENCE} in a {SENTENCE} cat"
    requests = [Request(prompt=prompt(text), seed=1) for text in (long, end, "a dog")]
    settings = replace(base.generate_defaults, steps=2, long_prompts=True)
    first, second, short = [pixels for _, pixels in generate_images(base, EMPTY, requests, settings, batch=3)]
    assert not np.array_equal(first, second)
    cut = generated(base, EMPTY, prompt(long), seed=1), generated(base, EMPTY, prompt(end), seed=1)
    assert np.array_equal(*cut)  # without the option, the end is ignored
    assert short.shape == first.shape
