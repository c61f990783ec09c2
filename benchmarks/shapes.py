"""Random weights in the shapes of Stable Diffusion 1.5, to measure costs without the real weights.

Owns the shapes; must not know what is measured.
"""

from __future__ import annotations

from pathlib import Path

import torch

from cnsctl.bases.base_folder import POCKET


def write_sd1(path: Path, device: torch.device) -> Path:
    """A folder of 2 GB in fp16: every shape as in SD 1.5; the tokenizer is pocket's, with fewer words."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    with device:
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                num_attention_heads=12, max_position_embeddings=77, bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )
        )  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280),
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, sample_size=512,
        )  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(POCKET / "tokenizer", local_files_only=True)
    tokenizer.model_max_length = 77
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True,
        set_alpha_to_one=False,
    )  # fmt: skip
    parts = {"text_encoder": text, "unet": unet, "vae": vae}
    pipe = StableDiffusionPipeline(
        **{name: part.half().cpu() for name, part in parts.items()}, tokenizer=tokenizer, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(path)
    return path
