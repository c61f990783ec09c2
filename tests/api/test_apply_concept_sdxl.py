"""A concept in a stock SDXL pipeline, in both modes: tokens in both text encoders, and out again bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from tiny import make_sdxl

from cnsctl import apply_concept, create_store, errors
from cnsctl.metrics.forgetting import psnr

pytestmark = pytest.mark.slow

SETTINGS = {"token_embeddings": 2, "learning_rate": 0.05, "steps": 6, "budget": 0.3, "measure": False}
PARTS = ("unet", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_sdxl(tmp_path_factory.mktemp("apply") / "sdxl")


@pytest.fixture(scope="module")
def session(folder, images_of_two, tmp_path_factory):
    store = create_store(tmp_path_factory.mktemp("apply") / "store", base=folder, mode="prompt")
    with store.load() as opened:
        opened.train("dog", images_of_two / "dog", **SETTINGS).result()
        yield opened


@pytest.fixture(scope="module")
def in_token_mode(folder, images_of_two, tmp_path_factory):
    """A store in token mode with `dog` and `hat`, and its session."""
    store = create_store(tmp_path_factory.mktemp("apply") / "token", base=folder)
    with store.load() as session:
        for name, words in (("dog", "dog"), ("hat", "top hat")):
            session.train(name, images_of_two / name, class_word=words, **SETTINGS).result()
        yield store, session


@pytest.fixture
def pipe(folder):
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def state(pipe):
    weights = {f"{part}.{n}": W.detach().clone() for part in PARTS for n, W in getattr(pipe, part).state_dict().items()}
    return weights, [t.get_vocab() for t in (pipe.tokenizer, pipe.tokenizer_2)]


def generated(pipe, prompt):
    generator = torch.Generator().manual_seed(7)
    return np.asarray(pipe(prompt, num_inference_steps=3, guidance_scale=1.0, generator=generator).images[0])


def test_the_image_is_the_one_that_cnsctl_generates_and_nothing_remains_afterwards(pipe, session):
    (weights, words), dog = state(pipe), session._open().store.concept("dog")
    delta = session._open().store.path / "blobs" / dog["delta"]
    without = generated(pipe, "a dog on a beach")
    with apply_concept(pipe, delta, name="dog") as concept:
        assert concept.trigger == "<dog>"
        assert all(token in t.get_vocab() for t in (pipe.tokenizer, pipe.tokenizer_2) for token in concept.tokens)
        stock = generated(pipe, "a <dog> on a beach")
    ours = np.asarray(session.generate("a <dog> on a beach", seed=7, guidance_scale=1.0, steps=3))
    assert psnr(stock, ours) >= 50
    assert psnr(without, ours) < 40, "the concept does nothing: the comparison proves nothing"
    after, words_after = state(pipe)
    assert words_after == words
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], W) for name, W in weights.items())


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_in_token_mode_the_image_is_the_one_that_cnsctl_generates(pipe, in_token_mode, guidance):
    (store, session), before = in_token_mode, state(pipe)
    settings = {"guidance_scale": guidance, "num_inference_steps": 3}

    def stock(prompt, **more):
        generator = torch.Generator().manual_seed(7)
        return np.asarray(pipe(prompt, generator=generator, **settings, **more).images[0])

    plain = stock("a dog and a hat")
    ours = np.asarray(session.generate("a <dog> and a <hat>", seed=7, guidance_scale=guidance, steps=3))
    with apply_concept(pipe, store.show("hat")), apply_concept(pipe, store.show("dog")):
        found = stock("a <dog> and a <hat>")
        np.testing.assert_array_equal(stock("a <dog> and a <hat>", prompt_2="a <dog> and a <hat>"), found)
        assert (stock("a <dog> and a <hat>", prompt_2="a dog and a hat") != found).any()
    assert psnr(found, ours) >= 50
    assert psnr(plain, ours) < 40, "the concepts do nothing: the comparison proves nothing"
    weights, words = state(pipe)
    assert words == before[1]
    assert weights.keys() == before[0].keys()
    assert all(torch.equal(weights[name], W) for name, W in before[0].items())
    np.testing.assert_array_equal(stock("a dog and a hat"), plain)


def test_a_concept_of_another_family_is_refused(pipe, shared_store):
    from cnsctl import open_store

    with pytest.raises(errors.BaseModelError, match="other shapes"):
        apply_concept(pipe, open_store(shared_store).show("dog"))
