"""How far the denoiser is off, with no sampling: what training lowers, on scenes that it never sees.

Owns this measure; must not know prompts or tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pocket.judge.eyes import pixels
from pocket.weights import token_ids
from pocket.world.scenes import subject_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pocket.world.scenes import Scene

LEVELS = 5
"""Each scene is looked at once in every fifth of the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Mean squared error of v; a denoiser that says nothing has about 1."""

    cells: float
    """Over all cells of the latents."""
    subjects: float
    """Over cells, each as much as subjects cover it."""
    by_fifth: tuple[float, ...]
    """Over all cells, from the fifth with least noise to that with most."""


@torch.no_grad()
def denoising_errors(pipeline: Any, scenes: Sequence[Scene], device: str = "cpu", batch: int = 64) -> Errors:
    """Noise scenes and ask for v, told their captions; noise and steps are the same for every base.

    Args:
        pipeline: with a v-predicting denoiser, in fp32.
        scenes: unseen.
        device: of the pipeline.
        batch: how many at once.
    """
    alphas = pipeline.scheduler.alphas_cumprod.cpu()
    generator = torch.Generator().manual_seed(0)
    found, weights = [], []  # (levels, n, h, w), (n, h, w)
    for i in range(0, len(scenes), batch):
        shown = scenes[i : i + batch]
        z = pipeline.vae.encode(pixels([s.image for s in shown]).to(device)).latent_dist.mode().cpu()
        z = z * pipeline.vae.config.scaling_factor
        told = pipeline.text_encoder(token_ids(pipeline.tokenizer, [s.caption for s in shown]).to(device))[0]
        squares = []
        for level in range(LEVELS):
            u = torch.rand(len(shown), generator=generator)
            t = ((level + u) * len(alphas) / LEVELS).long()
            noise = torch.randn(z.shape, generator=generator)
            signal, dirt = (a.sqrt()[:, None, None, None] for a in (alphas[t], 1 - alphas[t]))
            x = (signal * z + dirt * noise).to(device)
            said = pipeline.unet(x, t.to(device), told).sample.cpu()
            squares.append((said - signal * noise + dirt * z).square().mean(1))
        found.append(torch.stack(squares))
        weights += [torch.from_numpy(subject_share(s, z.shape[-1])) for s in shown]
    square, weight = torch.cat(found, 1), torch.stack(weights)
    return Errors(
        cells=float(square.mean()),
        subjects=float((square.mean(0) * weight).sum() / weight.sum()),
        by_fifth=tuple(square.mean((1, 2, 3)).tolist()),
    )
