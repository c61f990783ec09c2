"""Does a denoiser predict what its configuration says? Measured on one smooth image.

A model that is trained as if it predicted ε but predicts v trains without an error and generates noise. The configuration
of a single file is a guess, and scheduler files lose `prediction_type`. So `init` measures the error of both readings:

    error = ‖output − target‖² / ‖target‖²     target ε, or v = a·ε − s·x₀; 1 is as bad as a prediction of zero

Owns this measurement and its threshold; must not know families, files or options.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from cnsctl.errors import BaseModelError
from cnsctl.settings import Prediction

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from cnsctl.bases.loaded import LoadedBase

SIGNAL = (0.6, 0.4, 0.25)
"""Shares of signal a² at which the error is measured: there the two targets differ, and neither is mostly noise."""

CLEARLY = 1.5
"""How many times larger the wrong reading's error is. Pocket: 2.2 times; the smaller error of a good model, more."""

TOO_LARGE = 0.7
"""Error above which a denoiser predicts too little for a decision. Random weights: more than 1."""

MAX_SIDE = 32
"""Latents per side of the test image: enough for a smooth image, and fast at every base model's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What the weights say about what they predict."""

    errors: Mapping[Prediction, float]
    """Relative error of the denoiser's output, read as each."""

    @property
    def found(self) -> Prediction | None:
        """What the denoiser predicts; None if the weights cannot decide it, as random weights cannot."""
        best, other = sorted(self.errors, key=lambda kind: self.errors[kind])
        clear = self.errors[best] < TOO_LARGE and self.errors[other] > CLEARLY * self.errors[best]
        return best if clear else None

    def __str__(self) -> str:
        return ", ".join(f"{error:.2f} as {kind}" for kind, error in self.errors.items())


@torch.no_grad()
def measuring(base: LoadedBase) -> Generator[float, None, Check]:
    """Measure both readings with three calls of the denoiser.

    Yields:
        The share that is done.
    """
    side = min(base.size, MAX_SIDE * base.autoencoder.pixels_per_latent)
    latents = base.encode_images(_smooth(side)[None]).to(base.device)
    text = base.encode([base.tokenize([""])], {})
    keys_values = {site: F.linear(text.x, W, base.biases.get(site)) for site, W in base.sites.items()}
    wrong, norm = dict.fromkeys(Prediction, 0.0), dict.fromkeys(Prediction, 0.0)
    with base.bind(keys_values, text):
        for i, signal in enumerate(SIGNAL):
            times = (base.schedule.alphas - signal).abs().argmin()[None]
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(i)).to(base.device)
            noisy, targets = base.schedule.targets(latents, noise, times)
            output = base.denoise(noisy, times)
            for kind, target in targets.items():
                wrong[kind] += float((output - target).square().mean())
                norm[kind] += float(target.square().mean())
            yield (i + 1) / len(SIGNAL)
    return Check(errors={kind: wrong[kind] / norm[kind] for kind in Prediction})


def checking(base: LoadedBase) -> Generator[float, None, str | None]:
    """Check a base model. Returns what its owner should read, if the weights and the owner's word do not agree clearly.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: the weights clearly predict something else than the configuration says, and the owner has not
            said what they predict. With both errors.
    """
    said, found = base.schedule.prediction, (yield from measuring(base))
    if found.found is said:
        return None
    figures = f"relative error on a test image: {found}"
    if found.found is None:
        return f"cannot check that the weights predict {said}, as random weights cannot be checked; {figures}"
    if base.folder.prediction is None:
        raise BaseModelError(
            f"the weights of {base.name} do not predict {said}, as its configuration says",
            note=figures,
            reason="prediction",
            prediction=str(found.found),
        )
    return f"the weights seem to predict {found.found}, not {said}; {figures}"


def _smooth(side: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """A colour gradient, (side, side, 3) uint8: every image model can denoise it."""
    y, x = np.mgrid[0:side, 0:side] / max(1, side - 1)
    colours: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]] = (
        51 + 153 * np.stack([x, y, 1 - (x + y) / 2], axis=-1)
    ).astype(np.uint8)
    return colours
