"""How well a prompt describes images: the denoising error, which needs no sampling.

Owns this error; must not know the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cnsctl.engine.overlay import Overlay, joined, stacked, text_keys_values
from cnsctl.engine.seeds import stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnsctl.bases.attention import KeysValues
    from cnsctl.bases.protocol import Base, TextFeatures
    from cnsctl.concept import Prompt

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Noise levels at which the error is measured, as shares of the base model's timesteps."""


def denoising_errors(
    base: Base, overlay: Overlay, prompt: Prompt, latents: Sequence[torch.Tensor], *, noise_seed: int = 0
) -> tuple[float, ...]:
    """Mean denoising error on latents, (c, h, w) each, at each of `TIMES`, with fixed noise.

    `metrics.error_removed` compares it with the error of the class word alone.
    """
    errors = list(errors_by_image(base, overlay, prompt, latents, noise_seed=noise_seed))
    return tuple(_mean(errors).tolist())


def errors_by_image(
    base: Base, overlay: Overlay, prompt: Prompt, latents: Sequence[torch.Tensor], *, noise_seed: int = 0
) -> Iterator[torch.Tensor]:
    """The denoising error on each latent (c, h, w) at each of `TIMES`: (t,) float64 on the CPU."""
    with torch.no_grad():
        text, kv = text_keys_values(base, overlay, overlay.splice(base, prompt))
    return errors_of_text(base, text, kv, latents, noise_seed=noise_seed)


def errors_of_text(
    base: Base,
    text: TextFeatures,
    kv: KeysValues,
    latents: Sequence[torch.Tensor],
    *,
    noise_seed: int = 0,
) -> Iterator[torch.Tensor]:
    """`errors_by_image` of the features of one text, (1, …), and its K and V, (1, t, rows) per site."""
    times = torch.tensor([int(f * base.n_times) for f in TIMES])
    keys_values, read = stacked([kv] * len(times)), joined([text] * len(times))
    for i, latent in enumerate(latents):
        # for this image only: between two images another caller may use the base model
        with torch.no_grad(), base.bind(keys_values, read):
            z = latent.expand(len(times), *latent.shape).to(base.device)
            random = stream("fit", i, *([noise_seed] if noise_seed else []))
            noise = torch.randn(z.shape, generator=random).to(base.device)
            noisy, target = base.noised(z, noise, times)
            error = (base.denoise(noisy, times) - target).square().mean((1, 2, 3)).cpu().double()
        yield error


def denoising_error(
    base: Base, overlay: Overlay, prompt: Prompt, latents: Sequence[torch.Tensor], *, noise_seed: int = 0
) -> float:
    """Mean of `denoising_errors` over the noise levels."""
    return mean_error(list(errors_by_image(base, overlay, prompt, latents, noise_seed=noise_seed)))


def mean_error(errors: Sequence[torch.Tensor]) -> float:
    """Mean of `errors_by_image` over images and noise levels."""
    by_level = _mean(errors).tolist()
    return float(sum(by_level) / len(by_level))


def _mean(errors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Over the images, added in order: (t,)."""
    total = torch.zeros_like(errors[0])
    for error in errors:
        total += error
    return total / len(errors)
