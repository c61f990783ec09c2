"""Tiny base models of every family, built with stock diffusers: other widths, depths and text lengths than pocket's."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from cnsctl.bases import facts
from cnsctl.bases.base_folder import POCKET

EXAMPLES = POCKET.parents[1] / "examples"
"""The folders of example images."""


def some_images(name: str, count: int, folder: Path) -> Path:
    """The first of the example images of this name, in a folder of their own."""
    folder.mkdir(parents=True)
    for path in sorted((EXAMPLES / name).glob("*.png"))[:count]:
        shutil.copy(path, folder)
    return folder


def make_base(
    path: Path,
    *,
    prediction: str = "epsilon",
    width: int = 40,
    text_length: int = 24,
    linear_projection: bool = False,
    seed: int = 0,
) -> Path:
    """Write a random, working Stable Diffusion folder of 32 × 32 pixels; a fraction of a second."""
    torch.manual_seed(seed)
    tokenizer = CLIPTokenizer.from_pretrained(POCKET / "tokenizer", local_files_only=True)
    tokenizer.model_max_length = text_length
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=text_length, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width, attention_head_dim=(1, 4), norm_num_groups=8, use_linear_projection=linear_projection,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction,
        clip_sample=False, steps_offset=1, set_alpha_to_one=False,
    )  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae=_vae(), text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(path)
    _write_settings(path)
    return path


def make_sdxl(path: Path, *, prediction: str = "epsilon", zero_snr: bool = False, force_zeros: bool = True) -> Path:
    """Write a random, working Stable Diffusion XL folder of 32 × 32 pixels, with two text encoders of other widths.

    Args:
        path: of the folder.
        prediction: what the denoiser predicts.
        zero_snr: end the noise schedule without signal, as NoobAI's v-prediction models do.
        force_zeros: an empty negative prompt is read as zeros.
    """
    torch.manual_seed(2)
    common = {"intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 20,
              "bos_token_id": 0, "eos_token_id": 1}  # fmt: skip
    tokenizers, texts = [], []
    for width, kind, pad in ((24, CLIPTextModel, "<|endoftext|>"), (40, CLIPTextModelWithProjection, "!")):
        tokenizer = CLIPTokenizer.from_pretrained(POCKET / "tokenizer", local_files_only=True)
        tokenizer.model_max_length, tokenizer.pad_token = 20, pad
        tokenizers.append(tokenizer)
        config = CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, projection_dim=36, hidden_act="gelu",
            pad_token_id=tokenizer.pad_token_id, **common,
        )  # fmt: skip
        texts.append(kind(config))
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64, attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), norm_num_groups=8,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=36 + 6 * 8,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction,
        timestep_spacing="leading", steps_offset=1, interpolation_type="linear", use_karras_sigmas=False,
        rescale_betas_zero_snr=zero_snr,
    )  # fmt: skip
    StableDiffusionXLPipeline(
        vae=_vae(), text_encoder=texts[0], text_encoder_2=texts[1], tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1], unet=unet, scheduler=scheduler, force_zeros_for_empty_prompt=force_zeros,
        add_watermarker=False,
    ).save_pretrained(path)  # fmt: skip
    _write_settings(path)
    return path


def make_pixart(path: Path, *, prediction: str = "epsilon") -> Path:
    """Write a random, working PixArt-Σ folder of 32 × 32 pixels: T5, K and V with biases, a mask, a learned variance."""
    torch.manual_seed(3)
    words = CLIPTokenizer.from_pretrained(POCKET / "tokenizer", local_files_only=True).get_vocab()
    pieces = {f"▁{w.removesuffix('</w>')}" if w.endswith("</w>") else w for w in words if w.isascii() and w[0] != "<"}
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((w, -10.0) for w in sorted(pieces))]
    tokenizer = T5Tokenizer(vocab=vocab, extra_ids=0)
    encoder = T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=24, d_kv=6, d_ff=32, num_layers=2, num_heads=4, pad_token_id=0)
    )
    transformer = PixArtTransformer2DModel(
        num_attention_heads=4, attention_head_dim=12, in_channels=4, out_channels=8, num_layers=2,
        cross_attention_dim=48, caption_channels=24, sample_size=16, patch_size=2, attention_bias=True,
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():  # zero in a new model: they would be tested in vain
            if name.endswith(("to_k.bias", "to_v.bias")):
                parameter.normal_(std=0.2)
    scheduler = DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, prediction_type=prediction)
    PixArtSigmaPipeline(
        tokenizer=tokenizer, text_encoder=encoder, vae=_vae(), transformer=transformer, scheduler=scheduler
    ).save_pretrained(path)
    _write_settings(path)
    return path


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, sample_size=32,
    )  # fmt: skip


def _write_settings(path: Path) -> None:
    settings = {
        "name": path.name,
        "train": {"steps": 10, "batch_size": 2, "learning_rate": 1e-2, "token_learning_rate": 1e-2, "budget": 0.1},
        "generate": {"steps": 3, "guidance_scale": 2.0, "sampler": "base"},
    }
    (path / "cnsctl.json").write_text(json.dumps(settings), encoding="utf-8")


def write_facts(embedded: Path) -> None:
    """Write the facts of a base model beside its folder, as the package does for pocket."""
    known = asdict(facts.facts(embedded, with_files=True))
    embedded.with_name("facts.json").write_text(json.dumps(known))
