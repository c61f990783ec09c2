"""A concept in prompt mode in a stock diffusers pipeline, and out of it again, bit for bit."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from tiny import make_base

from cnsctl import apply_concept, create_store, errors
from cnsctl.app import applied, pipeline_parts
from cnsctl.metrics.forgetting import psnr

SETTINGS = {"token_embeddings": 2, "learning_rate": 0.05, "steps": 6, "budget": 0.3, "measure": False}


@pytest.fixture(scope="module")
def session(tiny_folder, images_of_two, tmp_path_factory):
    """A session of a store in prompt mode with `dog` (two token embeddings) and `hat` (three)."""
    store = create_store(tmp_path_factory.mktemp("apply") / "store", base=tiny_folder, mode="prompt")
    with store.load() as opened:
        opened.train("dog", images_of_two / "dog", **SETTINGS).result()
        opened.train("hat", images_of_two / "hat", **SETTINGS | {"token_embeddings": 3}).result()
        yield opened


@pytest.fixture(scope="module")
def dog(session):
    return _store(session).show("dog")


@pytest.fixture(scope="module")
def hat(session):
    return _store(session).show("hat")


def _store(session):
    from cnsctl import open_store

    return open_store(session._open().store.path)


def load(folder, dtype=torch.float32):
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=dtype, safety_checker=None, requires_safety_checker=False, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe(tiny_folder):
    return load(tiny_folder)


def state(pipe):
    """Everything that a concept may change, as bytes, and the objects that must be back."""
    weights = {
        f"{part}.{name}": (W.dtype, tuple(W.shape), W.detach().contiguous().view(torch.uint8).numpy().tobytes())
        for part in ("unet", "text_encoder", "vae")
        for name, W in getattr(pipe, part).state_dict().items()
    }
    tokenizer, text = pipe.tokenizer, pipe.text_encoder
    return {
        **weights,
        "vocabulary": tokenizer.get_vocab(),
        "length": len(tokenizer),
        "added": str(tokenizer.added_tokens_decoder),
        "ids": tokenizer("a <dog> <dog>_1 dog and a <hat> hat").input_ids,
        "config": text.config.to_dict(),
        "rows": text.get_input_embeddings().num_embeddings,
        "objects": (id(tokenizer), id(text.get_input_embeddings()), id(text.get_input_embeddings().weight)),
        "grad": [W.requires_grad for W in text.parameters()],
    }


def generated(pipe, prompt, seed=7):
    return np.asarray(
        pipe(prompt, num_inference_steps=3, guidance_scale=1.0, generator=torch.Generator().manual_seed(seed)).images[0]
    )


def test_the_image_is_the_one_that_cnsctl_generates_in_prompt_mode(pipe, session, dog):
    without = generated(pipe, "a dog on a beach")
    with apply_concept(pipe, dog) as concept:
        assert concept.trigger == "<dog>"
        stock = generated(pipe, f"a {concept.trigger} on a beach")
    ours = np.asarray(session.generate("a <dog> on a beach", seed=7, guidance_scale=1.0, steps=3))
    assert psnr(stock, ours) >= 50
    assert psnr(without, ours) < 40, "the concept does nothing: the comparison proves nothing"


def test_removing_a_concept_restores_every_bit(pipe, dog):
    before = state(pipe)
    handle = apply_concept(pipe, dog)
    assert state(pipe) != before
    handle.remove()
    assert state(pipe) == before


def test_the_end_of_a_with_block_removes_a_concept_also_after_an_error(pipe, dog):
    before = state(pipe)
    with pytest.raises(ZeroDivisionError), apply_concept(pipe, dog):
        _ = 1 / 0
    with apply_concept(pipe, dog) as concept:
        concept.remove()
    assert state(pipe) == before


@pytest.mark.parametrize("first", [0, 1])
def test_two_concepts_are_removed_in_any_order(pipe, dog, hat, first):
    before = state(pipe)
    with apply_concept(pipe, hat):
        only_hat = state(pipe)
    handles = [apply_concept(pipe, dog), apply_concept(pipe, hat)]
    ids = pipe.tokenizer(" ".join(t for h in handles for t in h.tokens)).input_ids[1:-1]
    assert len(set(ids) - set(before["vocabulary"].values())) == (2 + 1) + (3 + 1)
    handles[first].remove()
    if first == 0:
        assert state(pipe)["vocabulary"] == only_hat["vocabulary"]
        assert {k: v for k, v in state(pipe).items() if k != "objects"} == {
            k: v for k, v in only_hat.items() if k != "objects"
        }
    handles[1 - first].remove()
    assert state(pipe) == before


def test_where_two_concepts_change_one_weight_the_last_wins_and_the_first_is_back_without_it(pipe, dog, hat):
    with apply_concept(pipe, dog):
        alone = state(pipe)
    first, second = apply_concept(pipe, dog), apply_concept(pipe, hat)
    shared = 0
    for site, weight in pipe.unet.named_parameters():
        if site.removesuffix(".weight") in second.delta.indices:
            at, values = (getattr(second.delta, part)[site.removesuffix(".weight")] for part in ("indices", "values"))
            np.testing.assert_array_equal(weight.detach().numpy().reshape(-1)[at], values.astype(np.float32))
            shared += len(np.intersect1d(at, first.delta.indices[site.removesuffix(".weight")]))
    assert shared
    second.remove()
    assert {k: v for k, v in state(pipe).items() if k != "objects"} == {
        k: v for k, v in alone.items() if k != "objects"
    }
    first.remove()


def test_the_token_embeddings_are_rows_at_the_end_of_the_table(pipe, dog):
    with apply_concept(pipe, dog) as concept:
        table = pipe.text_encoder.get_input_embeddings().weight
        ids = pipe.tokenizer.convert_tokens_to_ids(list(concept.tokens))
        np.testing.assert_array_equal(
            table[ids[:2]].detach().numpy(), concept.delta.vectors["text_encoder"].astype(np.float32)
        )
        word = pipe.tokenizer.convert_tokens_to_ids("dog</w>")
        assert torch.equal(table[ids[2]], table[word]), "the class word is not the last of a concept's tokens"
        assert len(table) == pipe.text_encoder.config.vocab_size == len(pipe.tokenizer)


def test_a_pipeline_with_a_concept_can_be_saved_and_loaded(pipe, dog, tmp_path):
    with apply_concept(pipe, dog) as concept:
        prompt = f"a {concept.trigger} on a beach"
        expected = generated(pipe, prompt)
        pipe.save_pretrained(tmp_path / "baked")
    np.testing.assert_array_equal(generated(load(tmp_path / "baked"), prompt), expected)


def test_another_name_can_be_given_and_a_file_is_named_by_its_class_word(pipe, dog):
    with apply_concept(pipe, dog.delta) as of_file, apply_concept(pipe, dog.delta, name="rex") as named:
        assert (of_file.trigger, named.trigger) == ("<dog>", "<rex>")
        assert named.tokens == ("<rex>", "<rex>_1", "<rex>_2")


def test_a_removed_concept_cannot_be_removed_again(pipe, dog):
    handle = apply_concept(pipe, dog)
    handle.remove()
    with pytest.raises(errors.UsageError, match="was removed from the pipeline before"):
        handle.remove()


@pytest.mark.parametrize("changes", [{"seed": 1}, {"width": 24, "seed": 1}], ids=["other weights", "other shapes"])
@pytest.mark.parametrize("check", [True, False])
def test_another_base_model_is_refused_before_anything_is_changed(tmp_path, dog, changes, check):
    other = load(make_base(tmp_path / "other", **changes))
    before = state(other)
    if "width" not in changes and not check:
        apply_concept(other, dog, check=False).remove()
    else:
        with pytest.raises(errors.BaseModelError, match="the pipeline has another base model") as caught:
            apply_concept(other, dog, check=check)
        assert caught.value.note.startswith("the concept was trained on ")
    assert state(other) == before


def test_a_second_concept_is_checked_as_the_first_is(pipe, dog, tmp_path, tiny_folder, images_of_two):
    other = create_store(tmp_path / "store", base=make_base(tmp_path / "other", seed=1))
    with other.load() as session:
        session.train("hat", images_of_two / "hat", measure=False).result()
    with apply_concept(pipe, dog):
        before = state(pipe)
        with pytest.raises(errors.BaseModelError, match="fingerprint"):
            apply_concept(pipe, other.show("hat"))
        assert state(pipe) == before


def test_fp16_has_the_same_fingerprint_and_bf16_needs_check_to_be_off(tiny_folder, dog):
    half = load(tiny_folder, torch.float16)
    before = state(half)
    apply_concept(half, dog).remove()
    assert state(half) == before
    brain = load(tiny_folder, torch.bfloat16)
    before = state(brain)
    with pytest.raises(errors.BaseModelError, match="fingerprint") as caught:
        apply_concept(brain, dog)
    assert "check=False" in caught.value.hint
    apply_concept(brain, dog, check=False).remove()
    assert state(brain) == before


def test_a_pipeline_that_changes_its_dtype_meanwhile_keeps_it(tiny_folder, pipe, dog):
    handle = apply_concept(pipe, dog)
    pipe.to(torch.float16)
    handle.remove()
    expected = state(load(tiny_folder, torch.float16))
    assert {k: v for k, v in state(pipe).items() if k not in ("objects", "grad", "config")} == {
        k: v for k, v in expected.items() if k not in ("objects", "grad", "config")
    }


def test_a_pipeline_is_not_kept_alive(tiny_folder, dog):
    pipe = load(tiny_folder)
    handle = apply_concept(pipe, dog)
    unet = weakref.ref(pipe.unet)
    assert len(applied.APPLIED) == 1
    del pipe
    gc.collect()
    assert unet() is None
    assert len(applied.APPLIED) == 0
    handle.remove()


def test_after_the_last_concept_nothing_of_the_pipeline_is_kept(pipe, dog):
    """What is done to its weights in between must not be undone later."""
    apply_concept(pipe, dog).remove()
    assert pipe.unet not in applied.APPLIED
    with torch.no_grad():
        next(
            W for site, W in pipe.unet.named_parameters() if site.removesuffix(".weight").endswith(pipeline_parts.SITES)
        ).mul_(2)
    before = state(pipe)
    apply_concept(pipe, dog, check=False).remove()
    assert state(pipe) == before


def test_a_textual_inversion_loaded_meanwhile_must_be_unloaded_first(pipe, dog, tiny_folder):
    handle = apply_concept(pipe, dog)
    pipe.load_textual_inversion(torch.zeros(40), token="<style>")  # noqa: S106
    with pytest.raises(errors.UsageError, match="were changed after a concept was applied"):
        handle.remove()
    assert "<style>" in pipe.tokenizer.get_vocab()


def test_a_textual_inversion_loaded_before_stays(pipe, session, dog):
    pipe.load_textual_inversion(torch.ones(40), token="<style>")  # noqa: S106
    before = state(pipe)
    apply_concept(pipe, dog, check=False).remove()
    assert state(pipe) == before
    assert "<style>" in before["vocabulary"]


def test_a_second_pipeline_of_the_same_parts_sees_the_concept(pipe, dog):
    from diffusers import StableDiffusionImg2ImgPipeline

    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    with apply_concept(pipe, dog) as concept:
        assert concept.tokens[0] in other.tokenizer.get_vocab()
        with pytest.raises(errors.UsageError, match="contains the token already: <dog>"):
            apply_concept(other, dog)


def test_what_cannot_be_used_is_refused_in_words(pipe, dog, tmp_path):
    with pytest.raises(errors.UsageError, match="cannot read the delta"):
        apply_concept(pipe, tmp_path / "missing.safetensors")
    with pytest.raises(errors.UsageError) as refused:
        apply_concept(pipe, "dog")
    assert "Store.show" in refused.value.hint
    (tmp_path / "noise").write_bytes(b"no delta" * 10)
    with pytest.raises(errors.UnknownFormatError):
        apply_concept(pipe, tmp_path / "noise")
    with pytest.raises(errors.InvalidNameError):
        apply_concept(pipe, dog, name="My Dog")
    with pytest.raises(errors.BaseModelError, match="unsupported pipeline: object"):
        apply_concept(object(), dog)
    with apply_concept(pipe, dog), pytest.raises(errors.UsageError, match="contains the token already: <dog>"):
        apply_concept(pipe, dog)


def test_a_pipeline_whose_weights_are_elsewhere_is_refused(pipe, dog):
    pipe.unet.to("meta")
    with pytest.raises(errors.UsageError, match="whose weights are offloaded"):
        apply_concept(pipe, dog)
