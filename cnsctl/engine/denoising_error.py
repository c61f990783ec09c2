"""How well a prompt describes images: the denoising error, which needs no sampling.

Owns this error; must not know the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cnsctl.engine.overlay import Overlay, joined, stacked, text_keys_values
from cnsctl.engine.seeds import stream

if TYPE_CHECKING:
    from cnsctl.bases.protocol import Base
    from cnsctl.concept import Prompt

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Noise levels at which the error is measured, as shares of the base model's timesteps."""


@torch.no_grad()
def denoising_errors(
    base: Base, overlay: Overlay, prompt: Prompt, latents: torch.Tensor, *, noise_seed: int = 0
) -> tuple[float, ...]:
    """Mean denoising error on latents (n, c, h, w) at each of `TIMES`, with fixed noise.

    `metrics.error_removed` compares it with the error of the class word alone.
    """
    times = torch.tensor([int(f * base.n_times) for f in TIMES])
    text, kv = text_keys_values(base, overlay, overlay.splice(base, prompt))
    total = torch.zeros(len(times), dtype=torch.float64)
    with base.bind(stacked([kv] * len(times)), joined([text] * len(times))):
        for i, latent in enumerate(latents):
            z = latent.expand(len(times), *latent.shape).to(base.device)
            random = stream("fit", i, *([noise_seed] if noise_seed else []))
            noise = torch.randn(z.shape, generator=random).to(base.device)
            noisy, target = base.noised(z, noise, times)
            total += (base.denoise(noisy, times) - target).square().mean((1, 2, 3)).cpu().double()
    return tuple((total / len(latents)).tolist())


def denoising_error(
    base: Base, overlay: Overlay, prompt: Prompt, latents: torch.Tensor, *, noise_seed: int = 0
) -> float:
    """Mean of `denoising_errors` over the noise levels."""
    errors = denoising_errors(base, overlay, prompt, latents, noise_seed=noise_seed)
    return sum(errors) / len(errors)
