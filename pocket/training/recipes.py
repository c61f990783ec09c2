"""Every number of the training: batches, rates, averages, shapes; the present best, stage by stage.

Owns hyperparameters; must not know models or data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one stage learns."""

    batch: int
    """Samples per step on a CPU."""
    batch_gpu: int
    """Samples per step on a GPU."""
    peak: float
    """Learning rate after warming up, with a CPU's batches."""
    warm: int
    """Steps of warming up, from new or lent weights."""
    betas: tuple[float, float]
    weight_decay: float
    log_every: int
    """Steps between two lines of the log."""
    subject: float = 0.0
    """How much more the denoiser's error counts where subjects stand: 3 makes four times as much."""
    peak_gpu: float | None = None
    """The same with a GPU's larger batches; none: no other."""
    save_s: float = 60
    """Seconds between two saved states: what a kill can cost."""
    sample_s: float = 900
    """Seconds between two sheets of samples."""
    max_steps: int | None = None
    """Steps instead of minutes: for checks."""
    compiled: bool | None = None
    """Whether the denoiser is compiled, which takes minutes; none: on CPUs that compute bf16."""


VAE = Recipe(batch=16, batch_gpu=96, peak=1e-3, warm=100, betas=(0.9, 0.99), weight_decay=1e-4, log_every=50)
VAE_GOES_ON = 3e-4
"""Peak of a VAE that starts from trained weights."""

CLIP = Recipe(batch=256, batch_gpu=1024, peak=6e-4, warm=50, betas=(0.9, 0.98), weight_decay=0.05, log_every=20)

UNET = Recipe(
    batch=32,
    batch_gpu=256,
    peak=5e-4,
    peak_gpu=8e-4,
    warm=200,
    betas=(0.9, 0.99),
    weight_decay=0.01,
    log_every=100,
    subject=3.0,
)

UNET_GOES_ON = 3e-4
"""Peak, on a CPU, of a denoiser that starts from trained weights without its optimizer: the full rate would undo much
of them. What a GPU undoes it makes good in seconds."""

PLAN_SHARES = {"vae": 0.15, "clip": 0.10, "unet": 0.75}
"""How the minutes of a whole plan are divided; the last training stage gets what the others leave."""

PLAN_DECAY_FROM = 0.85
"""In a whole plan the denoiser's rate falls during the rest of its time."""

ROUNDS = 4
"""How often the denoiser sees the same scenes before new ones are drawn."""

SCENES, SCENES_GPU, SCENES_TINY = 32_000, 250_000, 256

VAE_SHAPE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (24, 48, 96, 128),
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
    "sample_size": 128,
}
UNET_SHAPE: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (96, 192, 256),
    "layers_per_block": 1,
    "cross_attention_dim": 256,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
}


def tiny(recipe: Recipe, *, steps: int | None = 40) -> Recipe:
    """The same recipe for tiny models and a few steps, each of them logged."""
    return replace(
        recipe,
        batch=8,
        batch_gpu=8,
        warm=5,
        peak=2e-3,
        peak_gpu=None,
        log_every=1,
        sample_s=float("inf"),
        max_steps=steps,
    )


def vae_shape(*, small: bool) -> dict[str, Any]:
    return {**VAE_SHAPE, "block_out_channels": (8, 8, 16, 16)} if small else VAE_SHAPE


def unet_shape(*, small: bool) -> dict[str, Any]:
    return {**UNET_SHAPE, "block_out_channels": (16, 16, 16), "cross_attention_dim": 64} if small else UNET_SHAPE
