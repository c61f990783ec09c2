"""Facts and defaults of the family `sdxl`: Stable Diffusion XL and its descendants (Pony, Illustrious, NoobAI).

Owns these data; must not know diffusers, transformers or the adapter's inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnsctl.bases.family import Family, Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.loaded import Components

TEXT_ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
"""The text encoders with their tokenizers, in the order in which their hidden states are joined."""

UNET, VAE, SCHEDULER = "unet", "vae", "scheduler"

PARTS = (
    *(Part(name=tokenizer, kind="transformers.CLIPTokenizer") for tokenizer in TEXT_ENCODERS.values()),
    Part(name="text_encoder", kind="transformers.CLIPTextModel", weights="fp32"),
    Part(name="text_encoder_2", kind="transformers.CLIPTextModelWithProjection", weights="fp32"),
    Part(name=UNET, kind="diffusers.UNet2DConditionModel", weights="stored"),
    Part(name=VAE, kind="diffusers.AutoencoderKL", weights="fp32"),
    Part(name=SCHEDULER, kind=None),
)

TRAIN = {
    "steps": 500,
    "batch_size": 1,
    "learning_rate": 1e-5,
    "token_learning_rate": 5e-4,
    "lambda_prev": 0.05,
    "lambda_base": 0.002,
}
"""Custom Diffusion's 1e-5 × batch size; one image of 1024 × 1024 at a time. Not tuned."""

GENERATE = {"steps": 30, "guidance_scale": 5.0, "sampler": "base"}
"""What diffusers' own pipeline uses, with fewer steps."""


def _components(folder: BaseFolder, parts: Mapping[str, Any]) -> Components:
    from cnsctl.bases.sdxl.adapter import components

    return components(folder, parts)


SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    pipelines=("StableDiffusionXLPipeline",),
    parts=PARTS,
    denoiser=UNET,
    decoder=VAE,
    size=1024,
    train=TRAIN,
    generate=GENERATE,
    components=_components,
)
