"""Token mode inside a stock diffusers pipeline: as cnsctl's own, and out again without a trace."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

from cnsctl import apply_concept, create_store, errors, open_store
from cnsctl.bases.base_folder import open_folder
from cnsctl.bases.registry import load as load_base
from cnsctl.concept import Mention, Mode, Prompt
from cnsctl.engine.concepts import to_concept
from cnsctl.engine.overlay import Overlay, text_keys_values
from cnsctl.metrics.forgetting import psnr

SETTINGS = {"token_embeddings": 2, "learning_rate": 0.05, "steps": 6, "budget": 0.3, "measure": False}


@pytest.fixture(scope="module")
def session(tiny_folder, images_of_two, tmp_path_factory):
    """A session of a store in token mode with `dog` (two token embeddings) and `hat` (three; its class word has two words)."""
    store = create_store(tmp_path_factory.mktemp("token-mode") / "store", base=tiny_folder)
    with store.load() as opened:
        opened.train("dog", images_of_two / "dog", **SETTINGS).result()
        opened.train("hat", images_of_two / "hat", class_word="top hat", **SETTINGS | {"token_embeddings": 3}).result()
        yield opened


@pytest.fixture(scope="module")
def store(session):
    return open_store(session._open().store.path)


@pytest.fixture(scope="module")
def dog(store):
    return store.show("dog")


@pytest.fixture(scope="module")
def hat(store):
    return store.show("hat")


@pytest.fixture(scope="module")
def stock(tiny_folder):
    found = StableDiffusionPipeline.from_pretrained(
        tiny_folder, safety_checker=None, requires_safety_checker=False, local_files_only=True
    )
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture
def pipe(stock):
    """A pipeline for this test alone."""
    found = copy.deepcopy(stock.components)
    pipe = StableDiffusionPipeline(**found, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generated(pipe, prompt=None, seed=7, **settings):
    settings = {"guidance_scale": 2.0, "num_inference_steps": 3} | settings
    many = pipe(prompt, generator=torch.Generator().manual_seed(seed), **settings).images
    return np.asarray(many[0]) if len(many) == 1 else [np.asarray(image) for image in many]


def state(pipe):
    """Everything that a concept may change: bytes, hooks, buffers, classes and settings of every module."""
    found = {"vocabulary": pipe.tokenizer.get_vocab(), "tokenizer": id(vars(pipe.tokenizer))}
    for part in ("unet", "text_encoder"):
        whole = getattr(pipe, part)
        found[f"{part}.config"] = dict(whole.config if part == "unet" else whole.config.to_dict())
        for name, module in whole.named_modules():
            hooks = {key: dict(value) for key, value in vars(module).items() if "_hooks" in key}
            own = {key for key in vars(module) if key not in hooks}
            buffers, kinds = set(module._buffers), set(module._non_persistent_buffers_set)
            found[f"{part}.{name}"] = (type(module), hooks, own, buffers, kinds)
        for name, W in whole.state_dict().items():
            found[f"{part}.{name}="] = (W.dtype, W.shape, W.contiguous().view(torch.uint8).numpy().tobytes())
        found |= {f"{part}.{name}#": id(W) for name, W in whole.named_parameters()}
    found["processors"] = {name: id(p) for name, p in pipe.unet.attn_processors.items()}
    return found


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        ("<dog> on a beach", {}),
        ("a dog on a beach", {"negative_prompt": "a <hat>"}),
        ("a <dog> and a <hat>, <dog>", {"guidance_scale": 1.0}),
    ],
    ids=["one", "in the negative prompt", "two, without guidance"],
)
def test_the_image_is_the_one_that_cnsctl_generates_in_token_mode(pipe, session, dog, hat, prompt, settings):
    plain = generated(
        pipe, prompt.replace("<", "").replace(">", ""), guidance_scale=settings.get("guidance_scale", 2.0)
    )
    ours = np.asarray(session.generate(prompt, seed=7, steps=3, **{"guidance_scale": 2.0} | settings))
    with apply_concept(pipe, hat) as first, apply_concept(pipe, dog) as second:
        assert (first.mode, second.mode) == (Mode.TOKEN, Mode.TOKEN)
        found = generated(pipe, prompt, **settings)
    assert psnr(found, ours) >= 50
    assert psnr(plain, ours) < 40, "the concepts do nothing: the comparison proves nothing"


def test_keys_and_values_are_those_of_the_engine(pipe, store, dog, hat, tiny_folder):
    base = load_base(open_folder(tiny_folder), device=torch.device("cpu"), dtype=torch.float32, hash_weights=True)
    prompt = Prompt(text="", pieces=("a ", Mention(name="dog"), " with a ", Mention(name="hat"), ", a dog"))
    with apply_concept(pipe, dog) as one, apply_concept(pipe, hat) as two:
        concepts = {c.name: to_concept(base, c.delta, key="") for c in (one, two)}
        overlay = Overlay(mode=Mode.TOKEN, concepts=concepts)
        text = overlay.splice(base, prompt)
        _, expected = text_keys_values(base, overlay, text)
        found = {}
        for name, module in pipe.unet.named_modules():
            if name in expected:
                module.register_forward_hook(lambda _m, _a, out, name=name: found.__setitem__(name, out))
        X, _ = pipe.encode_prompt("a <dog> with a <hat>, a dog", "cpu", 1, do_classifier_free_guidance=False)
        pipe.unet(torch.zeros(1, 4, 16, 16), 5, X)
    assert found.keys() == expected.keys()
    for site, out in found.items():
        torch.testing.assert_close(out, expected[site], rtol=1e-4, atol=1e-5)


def test_other_tokens_and_prompts_that_name_no_concept_are_as_without_it_bit_for_bit(pipe, dog):
    found = []
    site = pipe.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2.to_k")
    before = generated(pipe, "a dog on a beach")
    site.register_forward_hook(lambda _m, _a, out: found.append(out))
    with apply_concept(pipe, dog) as concept:
        np.testing.assert_array_equal(generated(pipe, "a dog on a beach"), before)
        X, _ = pipe.encode_prompt("a <dog> here", "cpu", 1, do_classifier_free_guidance=False)
        found.clear()
        pipe.unet(torch.zeros(1, 4, 16, 16), 5, X)
        own = [2, 3, 4]  # after the start and "a": two token embeddings and the class word
        assert X[0, :, -1].nonzero().flatten().tolist() == own
        pipe.unet(torch.zeros(1, 4, 16, 16), 5, X[..., :-1])
        changed = (found[0] != found[1]).any(-1)[0].nonzero().flatten().tolist()
        assert len(concept.tokens) == 3
    assert changed == own


def test_removing_a_concept_leaves_nothing(pipe, dog):
    before, image = state(pipe), generated(pipe, "a dog on a beach")
    with apply_concept(pipe, dog):
        assert state(pipe) != before
        generated(pipe, "<dog> on a beach")
    assert state(pipe) == before
    np.testing.assert_array_equal(generated(pipe, "a dog on a beach"), image)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_concepts_are_removed_in_any_order_also_one_under_two_names(pipe, dog, hat, order):
    before = state(pipe)
    alone = {}
    for name, concept in {"dog": dog, "rex": dog, "hat": hat}.items():
        with apply_concept(pipe, concept, name=name):
            alone[name] = generated(pipe, f"<{name}> here", num_inference_steps=1)
    np.testing.assert_array_equal(alone["dog"], alone["rex"])
    handles = [apply_concept(pipe, dog), apply_concept(pipe, hat), apply_concept(pipe, dog, name="rex")]
    left = {handle.name for handle in handles}
    for k in order:
        handles[k].remove()
        left.remove(handles[k].name)
        for name in left:
            assert psnr(generated(pipe, f"<{name}> here", num_inference_steps=1), alone[name]) >= 50
    assert state(pipe) == before


def test_each_prompt_of_a_batch_uses_the_concepts_that_it_names(pipe, dog, hat):
    with apply_concept(pipe, dog), apply_concept(pipe, hat):
        prompts, negative = ["a <hat> on a beach", "<dog>"], ["", "<hat>"]
        seeds = [torch.Generator().manual_seed(k) for k in (0, 1, 2, 3)]
        many = pipe(
            prompts, negative_prompt=negative, generator=seeds, num_images_per_prompt=2, num_inference_steps=2,
            guidance_scale=2.0,
        ).images  # fmt: skip
        for k, image in enumerate(many):
            alone = generated(
                pipe,
                prompts[k // 2],
                seed=k,
                negative_prompt=negative[k // 2],
                num_inference_steps=2,
                guidance_scale=2.0,
            )
            assert psnr(np.asarray(image), alone) >= 50


def test_prompts_that_were_encoded_earlier_can_be_used(pipe, dog):
    with apply_concept(pipe, dog):
        expected = generated(pipe, "<dog> here", negative_prompt="a <dog>")
        positive, negative = pipe.encode_prompt("<dog> here", "cpu", 1, True, negative_prompt="a <dog>")
        generated(pipe, "something else")
        given = {"prompt_embeds": positive, "negative_prompt_embeds": negative}
        np.testing.assert_array_equal(generated(pipe, **given), expected)


def test_prompts_that_were_encoded_with_other_concepts_are_refused(pipe, dog, hat):
    with apply_concept(pipe, dog):
        positive, negative = pipe.encode_prompt("<dog> here", "cpu", 1, True)
        with (
            apply_concept(pipe, hat),
            pytest.raises(errors.UsageError, match="were encoded while other concepts were in the pipeline"),
        ):
            pipe(prompt_embeds=positive, negative_prompt_embeds=negative, num_inference_steps=1)


def test_prompts_that_were_encoded_before_have_no_concept(pipe, dog):
    positive, negative = pipe.encode_prompt("a dog here", "cpu", 1, True)
    expected = generated(pipe, "a dog here")
    with apply_concept(pipe, dog):
        np.testing.assert_array_equal(
            generated(pipe, prompt_embeds=positive, negative_prompt_embeds=negative), expected
        )


def test_a_concept_that_does_not_fit_into_the_prompt_is_refused_as_in_cnsctl(pipe, session, dog):
    words = " ".join(["beach"] * 20)  # 22 tokens fit; the concept needs 3
    with pytest.raises(errors.UsageError, match="<dog> does not fit"):
        session.generate(f"{words} <dog>", steps=1)
    with apply_concept(pipe, dog):
        with pytest.raises(errors.UsageError, match="<dog> is not whole in the prompt"):
            generated(pipe, f"{words} <dog>")
        generated(pipe, f"{words[:-6]} <dog>", num_inference_steps=1)
        generated(pipe, f"{words} beach beach <dog>", num_inference_steps=1)  # cut off before it


def test_a_pipeline_of_the_same_parts_uses_the_concept(pipe, dog):
    image = Image.new("RGB", (32, 32), "red")
    early, given = StableDiffusionImg2ImgPipeline.from_pipe(pipe), {"image": image, "num_inference_steps": 4}
    plain = generated(early, "a dog", **given)
    with apply_concept(pipe, dog):
        late = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
        found = [generated(each, "<dog>", **given) for each in (early, late)]
        np.testing.assert_array_equal(*found)
        assert (found[0] != plain).any()
        np.testing.assert_array_equal(generated(early, "a dog", **given), plain)


def test_a_script_may_mix_prompts_and_weigh_tokens(pipe, dog):
    """What is linear in the features stays so: half of the marks is half of the delta."""
    site = pipe.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2.to_k")
    found = []
    site.register_forward_hook(lambda _m, _a, out: found.append(out))
    with apply_concept(pipe, dog):
        X, _ = pipe.encode_prompt("<dog>", "cpu", 1, do_classifier_free_guidance=False)
        half = torch.cat([X[..., :-1], 0.5 * X[..., -1:]], dim=-1)
        for each in (X[..., :-1], half, X):
            pipe.unet(torch.zeros(1, 4, 16, 16), 5, each)
    none, some, whole = found
    assert not torch.allclose(none, whole, rtol=1e-2)
    torch.testing.assert_close(some, (none + whole) / 2, rtol=1e-4, atol=1e-5)


def test_the_last_layer_norm_that_scripts_call_to_skip_layers_keeps_the_marks(pipe, dog):
    norm = pipe.text_encoder.final_layer_norm
    with apply_concept(pipe, dog):
        ids = pipe.tokenizer("<dog> <dog>_1 <dog>_2 here", return_tensors="pt").input_ids
        out = pipe.text_encoder(ids, output_hidden_states=True)
        skipped = norm(out.hidden_states[-2])
        assert torch.equal(skipped[..., :-1], norm(out.hidden_states[-2][..., :-1]))
        assert torch.equal(skipped[..., -1], out.last_hidden_state[..., -1])


def test_a_controlnet_in_the_pipeline_reads_the_features_without_marks(pipe, dog):
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    control = ControlNetModel.from_unet(pipe.unet)
    whole = StableDiffusionControlNetPipeline(**pipe.components, controlnet=control, requires_safety_checker=False)
    with apply_concept(whole, dog):
        X, _ = pipe.encode_prompt("<dog>", "cpu", 1, do_classifier_free_guidance=False)
        given = {"controlnet_cond": torch.zeros(1, 3, 128, 128), "return_dict": False}
        found = [control(torch.zeros(1, 4, 16, 16), 5, encoder_hidden_states=x, **given) for x in (X, X[..., :-1])]
    assert torch.equal(found[0][1], found[1][1])
    assert not control._forward_pre_hooks


def test_a_token_in_another_case_is_not_the_concept(pipe, dog):
    with apply_concept(pipe, dog):
        X, _ = pipe.encode_prompt("<Dog>", "cpu", 1, do_classifier_free_guidance=False)
        assert not X[..., -1].any()


def test_the_end_of_a_text_is_found_in_spite_of_new_tokens(pipe, dog):
    """Old CLIP configurations take the largest id of a text for its end, which a new token would be."""
    encoder = pipe.text_encoder
    encoder.eos_token_id = encoder.config.eos_token_id = 2
    before = state(pipe)
    with apply_concept(pipe, dog):
        ids = pipe.tokenizer("<dog> <dog>_1 <dog>_2 here", return_tensors="pt").input_ids
        out = encoder(ids)
        end = ids[0].tolist().index(pipe.tokenizer.eos_token_id)
        assert torch.equal(out.pooler_output[0], out.last_hidden_state[0, end, :-1])
    assert state(pipe) == before
    assert encoder.eos_token_id == encoder.config.eos_token_id == 2


def test_the_mode_can_be_chosen_and_both_can_be_in_one_pipeline(pipe, dog, hat):
    before = state(pipe)
    weight = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight
    start = weight.detach().clone()
    with apply_concept(pipe, dog, mode="prompt") as everywhere:
        assert everywhere.mode is Mode.PROMPT
        assert not torch.equal(weight, start)
        changed = weight.detach().clone()
        with apply_concept(pipe, hat, mode=Mode.TOKEN):
            assert torch.equal(weight, changed)
            everywhere.remove()
            assert torch.equal(weight, start)
            found = generated(pipe, "<hat>")
    assert state(pipe) == before
    with apply_concept(pipe, hat):
        np.testing.assert_array_equal(generated(pipe, "<hat>"), found)
    with pytest.raises(errors.InvalidSettingError, match="unknown mode 'all'"):
        apply_concept(pipe, dog, mode="all")


def test_a_pipeline_that_changes_its_dtype_still_uses_the_concept(pipe, dog):
    with apply_concept(pipe, dog):
        expected = generated(pipe, "<dog>")
        pipe.to(torch.float16)
        assert psnr(generated(pipe, "<dog>"), expected) >= 40


def test_after_an_error_nothing_is_changed(pipe, dog, monkeypatch):
    before = state(pipe)
    monkeypatch.setattr("cnsctl.engine.own_tokens.TokenMode._install", lambda _self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        apply_concept(pipe, dog)
    assert state(pipe) == before
