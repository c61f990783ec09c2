"""Sheets of samples: what the unfinished base draws for sixteen prompts.

Owns the prompts and the page; must not know training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pocket.sheets import page

if TYPE_CHECKING:
    from pathlib import Path

    from pocket.training.work import Work

PROMPTS = (
    "a dog on a beach",
    "a cat in the snow",
    "a red car in a city",
    "a lion wearing a crown in a meadow",
    "a horse and a frog in a meadow",
    "a rocket on the moon",
    "an owl in a forest",
    "an elephant in a desert",
    "a penguin on the left and a cactus on the right on a pink background",
    "a castle at sunset",
    "a mushroom in a room",
    "a fish under the sea",
    "a boot on a yellow background",
    "a balloon on a road",
    "a fox wearing a top hat in the mountains",
    "a robot at night",
)


def draw_samples(work: Work, pipeline: Any, step: int, *, steps: int = 20, guidance: float = 3.0) -> Path:
    """Write WORK/samples/unet-<step>.png, always from the same noise, so that sheets can be compared."""
    pictures = pipeline(
        list(PROMPTS),
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=128,
        width=128,
        generator=torch.Generator().manual_seed(1),
    ).images
    folder = work.path("samples")
    folder.mkdir(exist_ok=True)
    path = folder / f"unet-{step:08d}.png"
    page(list(zip(pictures, PROMPTS, strict=True))).save(path)
    return path
