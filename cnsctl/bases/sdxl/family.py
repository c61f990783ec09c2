"""Facts and defaults of the family `sdxl`: Stable Diffusion XL and its descendants (Pony, Illustrious, NoobAI).

Owns these data; must not know diffusers, transformers or the adapter's inside.
"""

from __future__ import annotations

from cnsctl.bases.family import TRAIN_LARGE, Family, Part
from cnsctl.bases.sdxl.image_sizes import IMAGE_SIZES

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

GENERATE = {"steps": 30, "guidance_scale": 5.0, "sampler": "base"}
"""What diffusers' own pipeline uses, with fewer steps."""


SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    pipelines=("StableDiffusionXLPipeline",),
    parts=PARTS,
    denoiser=UNET,
    decoder=VAE,
    text_encoders=TEXT_ENCODERS,
    has_clip_text=True,
    size=1024,
    corrects_scheduler=False,
    train=TRAIN_LARGE,
    generate=GENERATE,
    adapter="cnsctl.bases.sdxl.adapter",
    image_sizes=IMAGE_SIZES,
)
