"""Facts and defaults of the family `sd1`: Stable Diffusion 1.x and 2.x, and pocket.

Owns these data; must not know diffusers, transformers or the adapter's inside.
"""

from __future__ import annotations

from cnsctl.bases.family import Family, Part

TEXT_ENCODER, TOKENIZER, UNET, VAE, SCHEDULER = "text_encoder", "tokenizer", "unet", "vae", "scheduler"
"""Parts of the pipeline: folders, and the first is also the text encoder's name in deltas."""

PARTS = (
    Part(name=TOKENIZER, kind="transformers.CLIPTokenizer"),
    Part(name=TEXT_ENCODER, kind="transformers.CLIPTextModel", weights="fp32"),
    # cast once, to the computing dtype, after hashing and after W₀ was copied: not to fp32 first
    Part(name=UNET, kind="diffusers.UNet2DConditionModel", weights="stored"),
    Part(name=VAE, kind="diffusers.AutoencoderKL", weights="fp32"),
    Part(name=SCHEDULER, kind=None),
)

TRAIN = {
    "steps": 250,
    "batch_size": 4,
    "learning_rate": 4e-5,
    "token_learning_rate": 5e-4,
    "lambda_prev": 0.05,
    "lambda_base": 0.002,
}
"""Custom Diffusion's 1e-5 × batch size and 250 steps. Not tuned here."""

GENERATE = {"steps": 30, "guidance_scale": 7.5, "sampler": "base"}
"""What Stable Diffusion's own examples use."""


SD1 = Family(
    name="sd1",
    title="Stable Diffusion 1.x or 2.x",
    pipelines=("StableDiffusionPipeline",),
    parts=PARTS,
    denoiser=UNET,
    decoder=VAE,
    text_encoders={TEXT_ENCODER: TOKENIZER},
    has_clip_text=True,
    size=512,
    corrects_scheduler=True,
    train=TRAIN,
    generate=GENERATE,
    adapter="cnsctl.bases.sd1.adapter",
)
