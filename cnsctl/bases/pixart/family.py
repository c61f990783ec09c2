"""Facts and defaults of the family `pixart`: PixArt-α and PixArt-Σ.

Owns these data; must not know diffusers, transformers or the adapter's inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnsctl.bases.family import Family, Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.loaded import Components

TEXT_ENCODER, TOKENIZER, TRANSFORMER, VAE, SCHEDULER = "text_encoder", "tokenizer", "transformer", "vae", "scheduler"

PARTS = (
    Part(name=TOKENIZER, kind="transformers.T5Tokenizer"),
    Part(name=TEXT_ENCODER, kind="transformers.T5EncoderModel", weights="fp32"),
    Part(name=TRANSFORMER, kind="diffusers.PixArtTransformer2DModel", weights="stored"),
    Part(name=VAE, kind="diffusers.AutoencoderKL", weights="fp32"),
    Part(name=SCHEDULER, kind=None),
)

TEXT_LENGTHS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}
"""Tokens that each pipeline class reads, end included."""

TRAIN = {
    "steps": 500,
    "batch_size": 1,
    "learning_rate": 1e-5,
    "token_learning_rate": 5e-4,
    "lambda_prev": 0.05,
    "lambda_base": 0.002,
}
"""As for `sdxl`. Not tuned."""

GENERATE = {"steps": 20, "guidance_scale": 4.5, "sampler": "base"}
"""What diffusers' own pipelines use."""


def _components(folder: BaseFolder, parts: Mapping[str, Any]) -> Components:
    from cnsctl.bases.pixart.adapter import components

    return components(folder, parts)


PIXART = Family(
    name="pixart",
    title="PixArt-α or PixArt-Σ",
    pipelines=tuple(TEXT_LENGTHS),
    parts=PARTS,
    denoiser=TRANSFORMER,
    decoder=VAE,
    size=1024,
    train=TRAIN,
    generate=GENERATE,
    components=_components,
)
