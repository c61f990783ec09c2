"""Facts and defaults of the family `pixart`: PixArt-α and PixArt-Σ.

Owns these data; must not know diffusers, transformers or the adapter's inside.
"""

from __future__ import annotations

from cnsctl.bases.family import TRAIN_LARGE, Family, Part

TEXT_ENCODER, TOKENIZER, TRANSFORMER, VAE, SCHEDULER = "text_encoder", "tokenizer", "transformer", "vae", "scheduler"

PARTS = (
    Part(name=TOKENIZER, kind="transformers.T5Tokenizer"),
    Part(name=TEXT_ENCODER, kind="transformers.T5EncoderModel", weights="fp32"),
    Part(name=TRANSFORMER, kind="diffusers.PixArtTransformer2DModel", weights="stored"),
    Part(name=VAE, kind="diffusers.AutoencoderKL", weights="fp32"),
    Part(name=SCHEDULER, kind=None),
)

TEXT_LENGTHS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300, "PixArtSigmaPAGPipeline": 300}
"""Tokens that each pipeline class reads, end included."""

GENERATE = {"steps": 20, "guidance_scale": 4.5, "sampler": "base"}
"""What diffusers' own pipelines use."""


PIXART = Family(
    name="pixart",
    title="PixArt-α or PixArt-Σ",
    pipelines=tuple(TEXT_LENGTHS),
    parts=PARTS,
    denoiser=TRANSFORMER,
    decoder=VAE,
    text_encoders={TEXT_ENCODER: TOKENIZER},
    has_clip_text=False,
    size=1024,
    corrects_scheduler=False,
    train=TRAIN_LARGE,
    generate=GENERATE,
    adapter="cnsctl.bases.pixart.adapter",
)
