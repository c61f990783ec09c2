"""A concept in a pipeline that others change too: torch.compile, PEFT, attention processors, offload."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor, CustomDiffusionAttnProcessor2_0

from cnsctl import apply_concept, errors, open_store
from cnsctl.metrics.forgetting import psnr

MODES = ("token", "prompt")
LAYERS = ("to_k", "to_v", "to_q")


@pytest.fixture(scope="module")
def dog(shared_store):
    return open_store(shared_store).show("dog")


@pytest.fixture(scope="module")
def hat(shared_store):
    return open_store(shared_store).show("hat")


@pytest.fixture(scope="module")
def stock(tiny_folder):
    return StableDiffusionPipeline.from_pretrained(
        tiny_folder, safety_checker=None, requires_safety_checker=False, local_files_only=True
    )


@pytest.fixture
def pipe(stock):
    pipe = StableDiffusionPipeline(**copy.deepcopy(stock.components), requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generated(pipe, prompt):
    generator = torch.Generator().manual_seed(7)
    return np.asarray(pipe(prompt, num_inference_steps=2, guidance_scale=2.0, generator=generator).images[0])


def weights(pipe):
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    return {f"{part}.{name}": W.clone() for part, module in parts.items() for name, W in module.state_dict().items()}


def same(before, pipe):
    after = weights(pipe)
    return before.keys() == after.keys() and all(torch.equal(after[name], W) for name, W in before.items())


@pytest.fixture
def lora(pipe):
    """A LoRA on attention layers, as a file has it; it changes the image."""
    pytest.importorskip("peft")
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(0)
    unet = copy.deepcopy(pipe.unet)
    unet.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=list(LAYERS)))
    found = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    return {f"unet.{name}": W for name, W in found.items()}


@pytest.mark.parametrize("mode", MODES)
def test_a_lora_of_peft_and_a_concept_are_loaded_and_removed_in_any_order(pipe, dog, lora, mode):
    clean = weights(pipe)
    with apply_concept(pipe, dog, mode=mode):
        only_dog = generated(pipe, "<dog>")
    pipe.load_lora_weights(dict(lora))
    with_lora, only_lora = weights(pipe), generated(pipe, "a dog")

    concept = apply_concept(pipe, dog, mode=mode)
    both = generated(pipe, "<dog>")
    assert (both != only_dog).any()
    pipe.disable_lora()
    np.testing.assert_array_equal(generated(pipe, "<dog>"), only_dog)
    pipe.enable_lora()
    concept.remove()
    assert same(with_lora, pipe)
    np.testing.assert_array_equal(generated(pipe, "a dog"), only_lora)

    concept = apply_concept(pipe, dog, mode=mode)
    pipe.unload_lora_weights()
    np.testing.assert_array_equal(generated(pipe, "<dog>"), only_dog)
    pipe.load_lora_weights(dict(lora))
    np.testing.assert_array_equal(generated(pipe, "<dog>"), both)
    concept.remove()
    assert same(with_lora, pipe)
    pipe.unload_lora_weights()
    assert same(clean, pipe)


def test_a_fused_lora_is_refused_where_it_would_be_lost(pipe, dog, hat, lora):
    pipe.load_lora_weights(dict(lora))
    in_token_mode = apply_concept(pipe, dog)
    both = generated(pipe, "<dog>")
    pipe.fuse_lora()
    assert psnr(generated(pipe, "<dog>"), both) >= 50
    with pytest.raises(errors.UsageError, match="is fused into down_blocks") as caught:
        apply_concept(pipe, hat)
    assert "unfuse_lora" in caught.value.hint
    fused = weights(pipe)
    in_token_mode.remove()  # it did not write to a weight
    assert all(torch.equal(W, fused[name]) for name, W in weights(pipe).items() if name.startswith("unet"))
    pipe.unfuse_lora()
    in_prompt_mode = apply_concept(pipe, dog, mode="prompt", check=False)  # unfusing rounds
    pipe.fuse_lora()
    with pytest.raises(errors.UsageError, match="is fused into down_blocks"):
        in_prompt_mode.remove()
    pipe.unfuse_lora()
    in_prompt_mode.remove()


def test_a_lora_on_the_text_encoder_is_not_another_base_model(pipe, dog):
    peft = pytest.importorskip("peft")
    pipe.text_encoder.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    with apply_concept(pipe, dog):
        generated(pipe, "<dog>")


@pytest.mark.slow
def test_compiled_modules_notice_concepts_that_come_and_go(pipe, dog, hat):
    with apply_concept(pipe, dog):
        with_dog = generated(pipe, "<dog>")
    with apply_concept(pipe, hat, name="dog"):
        with_hat = generated(pipe, "<dog>")
    plain = generated(pipe, "a dog")
    pipe.unet.mid_block.attentions[0].transformer_blocks[0].compile(backend="eager")
    np.testing.assert_array_equal(generated(pipe, "a dog"), plain)
    with apply_concept(pipe, dog):
        np.testing.assert_array_equal(generated(pipe, "<dog>"), with_dog)
    np.testing.assert_array_equal(generated(pipe, "a dog"), plain)
    with apply_concept(pipe, hat, name="dog"):
        np.testing.assert_array_equal(generated(pipe, "<dog>"), with_hat)
    torch.compiler.reset()


def test_the_wrappers_of_torch_compile_are_looked_through(pipe, dog):
    unet, before = pipe.unet, weights(pipe)
    pipe.unet, pipe.text_encoder = (torch.compile(part, backend="eager") for part in (pipe.unet, pipe.text_encoder))
    with apply_concept(pipe, dog), torch.compiler.set_stance("force_eager"):
        assert unet._forward_pre_hooks
        compiled = generated(pipe, "<dog>")
    assert not unet._forward_pre_hooks
    pipe.unet, pipe.text_encoder = pipe.unet._orig_mod, pipe.text_encoder._orig_mod
    assert same(before, pipe)
    with apply_concept(pipe, dog):
        np.testing.assert_array_equal(generated(pipe, "<dog>"), compiled)


def test_another_attention_processor_gives_the_same_image(pipe, dog):
    with apply_concept(pipe, dog):
        expected = generated(pipe, "<dog>")
        pipe.unet.set_attn_processor(AttnProcessor())
        assert psnr(generated(pipe, "<dog>"), expected) >= 50
        pipe.enable_attention_slicing(1)
        assert psnr(generated(pipe, "<dog>"), expected) >= 50


def test_fused_projections_are_refused_before_and_after_and_can_be_undone(pipe, dog):
    pipe.fuse_qkv_projections()
    with pytest.raises(errors.UsageError, match="attn2 are fused"):
        apply_concept(pipe, dog)
    pipe.unfuse_qkv_projections()
    with apply_concept(pipe, dog) as concept:
        expected = generated(pipe, "<dog>")
        pipe.fuse_qkv_projections()
        with pytest.raises(errors.UsageError, match="attn2 are fused"):
            generated(pipe, "<dog>")
        with pytest.raises(errors.UsageError, match="attn2 are fused"):
            concept.remove()
        pipe.unfuse_qkv_projections()
        np.testing.assert_array_equal(generated(pipe, "<dog>"), expected)


def test_attention_with_its_own_k_and_v_is_refused(pipe, dog):
    attention = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    attention.set_processor(CustomDiffusionAttnProcessor2_0(hidden_size=32, cross_attention_dim=40))
    with pytest.raises(errors.UsageError, match="has K and V projections of its own: CustomDiffusionAttnProcessor2_0"):
        apply_concept(pipe, dog)


def test_a_pipeline_on_several_devices_is_refused(pipe, dog):
    pipe.unet = torch.nn.DataParallel(pipe.unet)
    with pytest.raises(errors.UsageError, match="a part in DataParallel"):
        apply_concept(pipe, dog)


def test_model_offload_works_and_layers_that_are_elsewhere_are_refused(pipe, dog):
    with apply_concept(pipe, dog):
        expected = generated(pipe, "<dog>")
        pipe.enable_model_cpu_offload(device="cpu")
        np.testing.assert_array_equal(generated(pipe, "<dog>"), expected)
        pipe.remove_all_hooks()
    concept = apply_concept(pipe, dog)
    for site in concept.delta.shapes:
        pipe.unet.get_submodule(site).own_token_change = torch.empty(1, 1, device="meta")
    with pytest.raises(errors.UsageError, match="offloaded one by one"):
        generated(pipe, "<dog>")
