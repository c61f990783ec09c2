"""Pictures to judge: drawn by a base, or rendered by the world for the same captions.

Owns seeds, batches and sampler settings; must not know what is asked of the pictures.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pocket.machine import Machine
from pocket.world.captions import caption
from pocket.world.draws import Draws
from pocket.world.scenes import SIZE, Scene, scene, subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

    from pocket.world.captions import Telling

BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """A stock pipeline and how it is asked to draw."""

    pipeline: Any
    steps: int = 25
    guidance: float = 3.0
    on: Machine = field(default_factory=lambda: Machine(device="cpu", bf16=False))
    """Mixed precision where it is fast; the pictures are as good."""

    def draw(self, texts: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[list[Image.Image], float]]:
        """Draw each text from its own seed; yield batch by batch, with the seconds that it took.

        A picture depends on its text and seed: its noise comes from a generator of its own, on the CPU.
        """
        for i in range(0, len(texts), BATCH):
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[i : i + BATCH]]
            start = time.perf_counter()
            with self.on.amp():
                images = self.pipeline(
                    list(texts[i : i + BATCH]),
                    num_inference_steps=self.steps,
                    guidance_scale=self.guidance,
                    height=SIZE,
                    width=SIZE,
                    generator=generators,
                ).images
            yield images, time.perf_counter() - start


def rendered(telling: Telling, seed: int) -> Scene:
    """A scene of which the world itself says exactly this caption.

    What the caption leaves open is drawn; scenes whose caption comes out otherwise (another way to say a pair, the
    opening words) are drawn again from the next seed, so that sides and order are as likely as in training.
    """
    while True:
        draws = Draws(seed)
        found = scene(
            draws,
            layout=telling.layout,
            place=telling.place,
            style=telling.style,
            subject=None if telling.subject is None else subject_of(telling.subject, draws),
            second=None if telling.second is None else subject_of(telling.second, draws),
        )
        if found.caption == caption(telling):
            return found
        seed += 1_000_003
