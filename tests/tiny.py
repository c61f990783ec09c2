"""Tiny bases of the `sd1` family, built with stock diffusers: other widths, depths and text lengths than pocket's."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cnsctl.bases import facts
from cnsctl.bases.base_folder import POCKET

EXAMPLES = POCKET.parents[1] / "examples"
"""The picture folders that travel in the package."""


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
        cross_attention_dim=width, attention_head_dim=4, norm_num_groups=8, use_linear_projection=linear_projection,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, sample_size=32,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction,
        clip_sample=False, steps_offset=1, set_alpha_to_one=False,
    )  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(path)
    settings = {
        "name": path.name,
        "train": {"steps": 10, "batch_size": 2, "learning_rate": 1e-2, "token_learning_rate": 1e-2, "budget": 0.1},
        "generate": {"steps": 3, "guidance_scale": 2.0, "sampler": "base"},
    }
    (path / "cnsctl.json").write_text(json.dumps(settings), encoding="utf-8")
    return path


def write_facts(embedded: Path) -> None:
    """Note the facts of a package's embedded base beside it, as the package does."""
    known = asdict(facts.facts(embedded, with_files=True))
    embedded.with_name("facts.json").write_text(json.dumps(known))
