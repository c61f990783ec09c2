"""What the VAE keeps of a picture, and how well CLIP finds a picture's caption; both on scenes nobody trained on.

Owns these two measures; must not know what is drawn from prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pocket.judge.eyes import pixels
from pocket.world.captions import Layout
from pocket.world.draws import Draws
from pocket.world.scenes import Scene, scene
from pocket.world.things import HEAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pocket.judge.eyes import Eyes
    from pocket.world.scenes import Placed

FIRST_SEED = 2**50
"""Training draws its scenes from seeds below 2^41."""

Box = tuple[int, int, int, int]
"""Left, upper, right, lower edge in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Psnr:
    """Decibels against the picture that went in."""

    whole: float
    """Over all pixels of all pictures."""
    mean: float
    """Mean of the pictures' own."""
    faces: float
    """Over the heads of single dressed things alone."""
    pair_faces: float
    """The same in pairs, where heads are two thirds as large."""


def unseen_scenes(count: int) -> list[Scene]:
    """Scenes as training draws them, from seeds that it does not use."""
    return [scene(Draws(FIRST_SEED + i)) for i in range(count)]


@torch.no_grad()
def vae_psnr(vae: Any, scenes: Sequence[Scene], device: str = "cpu", batch: int = 16) -> Psnr:
    """Encode and decode (mean of the posterior), and compare."""
    squares = []
    for i in range(0, len(scenes), batch):
        x = pixels([s.image for s in scenes[i : i + batch]]).to(device)
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        squares.append((y - x).square().mean(1).cpu())
    square = torch.cat(squares)  # (n, h, w), mean over channels
    return Psnr(
        whole=_decibels(square),
        mean=sum(_decibels(picture) for picture in square) / len(square),
        faces=_decibels(_inside(square, scenes, {Layout.ALONE, Layout.HAT})),
        pair_faces=_decibels(_inside(square, scenes, {Layout.PAIR})),
    )


def face_box(placed: Placed) -> Box | None:
    """Where the face is, or None for things without one: as high as the head is wide, from the brim down."""
    word = placed.subject.said.word
    if word not in HEAD:
        return None
    x, y, width = HEAD[word]
    scale = placed.side / 100
    left, top = placed.left + (x - width / 2) * scale, placed.top + y * scale
    return round(left), round(top), round(left + width * scale), round(top + width * scale)


def recall_at_1(eyes: Eyes, scenes: Sequence[Scene]) -> float:
    """For how many pictures the nearest of all captions is their own (or the same words)."""
    texts = [s.caption for s in scenes]
    nearest: list[int] = (eyes.see([s.image for s in scenes]) @ eyes.read(texts).T).argmax(1).tolist()
    right = [texts[i] == text for i, text in zip(nearest, texts, strict=True)]
    return sum(right) / len(right)


def _inside(square: torch.Tensor, scenes: Sequence[Scene], layouts: set[Layout]) -> torch.Tensor:
    """Squared errors of all face pixels in scenes of these layouts, flat."""
    faces = [torch.empty(0)]
    for errors, s in zip(square, scenes, strict=True):
        if s.telling.layout in layouts:
            boxes = [box for placed in s.placed if (box := face_box(placed)) is not None]
            faces += [errors[y0:y1, x0:x1].flatten() for x0, y0, x1, y1 in boxes]
    return torch.cat(faces)


def _decibels(square: torch.Tensor) -> float:
    """PSNR of pixels in -1..1; nan when there are none."""
    return float(10 * torch.log10(4 / square.mean().clamp(min=1e-12)))
