"""Rules of recognizing files by their keys: true names and shapes, from the libraries' own classes where they have them."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, FluxTransformer2DModel, SD3Transformer2DModel, T2IAdapter
from diffusers import UNet2DConditionModel as UNet
from transformers import CLIPTextConfig, CLIPTextModel

from cnsctl.bases import recognize
from cnsctl.bases.recognize import Kind

UNET = "model.diffusion_model."


def of(kind, **config):
    """The keys and shapes of a stock class."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in kind(**config).state_dict().items()}


def checkpoint(width, *encoders, channels=4, prefix=UNET, **more):
    """Marks of a single-file checkpoint, as the original implementations name them."""
    block = f"{prefix}input_blocks.4.1.transformer_blocks.0"
    return {
        f"{prefix}input_blocks.0.0.weight": (320, channels, 3, 3),
        f"{prefix}time_embed.0.weight": (1280, 320),
        f"{block}.attn1.to_k.weight": (640, 640),
        f"{block}.attn2.to_k.weight": (640, width),
        f"{prefix}out.2.weight": (4, 320, 3, 3),
        "first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3),
        "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
        **{f"{encoder}x.weight": (768, 768) for encoder in encoders},
        **more,
    }


def unet_alone(header):
    return {key: shape for key, shape in header.items() if key.startswith(UNET)}


SD1_TEXT, SD2_TEXT = "cond_stage_model.transformer.", "cond_stage_model.model."
XL_TEXT = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.")
LABELS = {f"{UNET}label_emb.0.0.weight": (1280, 2816)}
SMALL = {"cross_attention_dim": 768, "block_out_channels": (32, 64), "layers_per_block": 1}
DOWN = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
UP = {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}

CASES = {
    "SD 1.5": (checkpoint(768, SD1_TEXT), Kind.SD1),
    "SD 2.1": (checkpoint(1024, SD2_TEXT), Kind.SD2),
    "SDXL": (checkpoint(2048, *XL_TEXT, **LABELS), Kind.SDXL),
    "the refiner": (checkpoint(1280, "conditioner.embedders.0.model.", **LABELS), Kind.REFINER),
    "a small one": (checkpoint(40, SD1_TEXT), Kind.SD1),
    "a small SDXL": (checkpoint(72, *XL_TEXT, **LABELS), Kind.SDXL),
    "SD 1.5 inpainting": (checkpoint(768, SD1_TEXT, channels=9), Kind.INPAINTING),
    "SDXL inpainting": (checkpoint(2048, *XL_TEXT, channels=9, **LABELS), Kind.INPAINTING),
    "InstructPix2Pix": (checkpoint(768, SD1_TEXT, channels=8), Kind.EDITING),
    "SD 2 depth": (checkpoint(1024, SD2_TEXT, channels=5), Kind.OTHER_INPUT),
    "SD 2 unCLIP": (checkpoint(1024, SD2_TEXT, **LABELS), Kind.OTHER_INPUT),
    "LCM": (checkpoint(768, SD1_TEXT, **{f"{UNET}time_embed.cond_proj.weight": (320, 256)}), Kind.LCM),
    "Playground": (checkpoint(2048, *XL_TEXT, edm_mean=(1, 4, 1, 1)), Kind.PLAYGROUND),
    "an original UNet": (unet_alone(checkpoint(768, SD1_TEXT)), Kind.UNET_ORIGINAL),
    "a UNet of ComfyUI": (
        {k.removeprefix(UNET): shape for k, shape in unet_alone(checkpoint(2048)).items()},
        Kind.UNET_ORIGINAL,
    ),
    "a UNet": (of(UNet, **SMALL, **DOWN, **UP), Kind.UNET),
    "an inpainting UNet": (of(UNet, in_channels=9, **SMALL, **DOWN, **UP), Kind.INPAINTING),
    "an LCM UNet": (of(UNet, time_cond_proj_dim=256, **SMALL, **DOWN, **UP), Kind.LCM),
    "a VAE": (of(AutoencoderKL), Kind.VAE),
    "an original VAE": (
        {"encoder.conv_in.weight": (128, 3, 3, 3), "decoder.conv_in.weight": (512, 4, 3, 3), "decoder.mid.x": (1,)},
        Kind.VAE,
    ),
    "a CLIP": (
        of(CLIPTextModel, config=CLIPTextConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1)),
        Kind.TEXT_ENCODER,
    ),
    "a ControlNet": (of(ControlNetModel, **SMALL, **DOWN), Kind.CONTROLNET),
    "an original ControlNet": ({"control_model.zero_convs.0.0.weight": (320, 320, 1, 1)}, Kind.CONTROLNET),
    "ControlNet-LLLite": ({"lllite_unet_input_blocks_4_1_down.0.weight": (32, 640)}, Kind.CONTROLNET),
    "a T2I-Adapter": (of(T2IAdapter), Kind.ADAPTER),
    "an IP-Adapter": ({"ip_adapter.1.to_k_ip.weight": (320, 768), "image_proj.norm.weight": (768,)}, Kind.ADAPTER),
    "a LoRA of kohya": (
        {
            "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320, 1, 1),
            "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": (),
        },
        Kind.LORA,
    ),
    "a LoRA of diffusers": (
        {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (4, 768)},
        Kind.LORA,
    ),
    "a LoRA of FLUX": ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (16, 3072)}, Kind.LORA),
    "a LoKr": ({"lora_unet_mid_block_attentions_0_proj_in.lokr_w1": (8, 8)}, Kind.LORA),
    "a full difference": (
        {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.diff": (320, 768)},
        Kind.LORA,
    ),
    "Custom Diffusion": (
        {
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_custom_diffusion.weight": (320, 768),
        },
        Kind.LORA,
    ),
    "an embedding of diffusers": ({"<dog>": (2, 768)}, Kind.EMBEDDING),
    "an embedding of kohya": ({"emb_params": (1, 768)}, Kind.EMBEDDING),
    "an embedding of SDXL": ({"clip_l": (4, 768), "clip_g": (4, 1280)}, Kind.EMBEDDING),
    "a motion module": (
        {"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (320,)},
        Kind.MOTION,
    ),
    "FLUX": ({f"{UNET}double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, Kind.FLUX),
    "FLUX of diffusers": (
        of(FluxTransformer2DModel, num_layers=1, num_single_layers=1, num_attention_heads=2, joint_attention_dim=32),
        Kind.FLUX,
    ),
    "SD 3": ({f"{UNET}joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,)}, Kind.SD3),
    "SD 3 of diffusers": (of(SD3Transformer2DModel, num_layers=2, num_attention_heads=2), Kind.SD3),
    "Anima": ({"net.blocks.0.cross_attn.k_proj.weight": (2048, 1024)}, Kind.OTHER_TRANSFORMER),
    "Lumina": ({"cap_embedder.0.weight": (2304,), "layers.0.x": (1,)}, Kind.OTHER_TRANSFORMER),
    "nothing": ({}, Kind.UNKNOWN),
    "other data": ({"images": (10, 3, 64, 64), "labels": (10,)}, Kind.UNKNOWN),
}


@pytest.mark.parametrize(("header", "kind"), CASES.values(), ids=CASES)
def test_a_file_is_recognized_by_its_keys_and_shapes(header, kind):
    assert recognize.recognize(header) is kind


def test_an_exported_delta_is_recognized():

    header = {"a.attn2.to_k.gaps": (5,), "a.attn2.to_k.values": (5,), "vectors.text_encoder": (1, 768)}
    assert recognize.recognize(header) is Kind.CONCEPT


def test_every_kind_has_a_title_and_each_that_is_not_a_checkpoint_a_reason():
    assert set(recognize.TITLES) == set(Kind)
    assert set(recognize.REASONS) == set(Kind) - recognize.CHECKPOINTS


def test_the_parts_of_a_checkpoint_are_found_by_their_prefixes():
    parts = recognize.parts_of(checkpoint(2048, *XL_TEXT, **LABELS))
    assert parts == (UNET, "first_stage_model.", *XL_TEXT)
    parts = recognize.parts_of(checkpoint(1024, SD2_TEXT))
    assert parts == (UNET, "first_stage_model.", SD2_TEXT, None)
    assert recognize.parts_of({"x": (1,)}) == (None, None, None, None)
