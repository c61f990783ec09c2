"""Three ways to redraw a scene: pencil sketch, watercolor, pixel art.

Owns what a style does to pixels; must not know what the picture shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from pocket.world.scenery import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pocket.world.draws import Draws


def styled(image: Image.Image, style: str, draws: Draws) -> Image.Image:
    """The picture in that style, one of STYLES."""
    return STYLES[style](image, draws)


def pencil(image: Image.Image, _draws: Draws) -> Image.Image:
    """Colour dodge with the blurred negative: edges stay, areas turn to paper."""
    gray = image.convert("L")
    levels = np.asarray(gray).astype(np.float32)
    negative = Image.fromarray(255 - np.asarray(gray)).filter(ImageFilter.GaussianBlur(5))
    dodge = np.clip(levels * 255 / (256 - np.asarray(negative).astype(np.float32)), 0, 255)
    paper = dodge * 0.75 + levels * 0.15 + 25
    return Image.fromarray(np.dstack([paper, paper * 0.985, paper * 0.95]).clip(0, 255).astype(np.uint8))


def watercolor(image: Image.Image, draws: Draws) -> Image.Image:
    """Flat washes, paled, with slow waves of pigment."""
    washes = image.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.ModeFilter(5))
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    waves = np.sin(x / 17 + draws.between(0, 6)) * np.sin(y / 13 + draws.between(0, 6))
    pale = np.asarray(washes).astype(np.float32) * 0.72 + 255 * 0.28 + waves[..., None] * 9
    return Image.fromarray(pale.clip(0, 255).astype(np.uint8))


def pixel_art(image: Image.Image, _draws: Draws) -> Image.Image:
    """Blocks of 4 × 4 pixels in 24 colours."""
    small = image.resize((32, 32), Image.Resampling.BOX).quantize(24).convert("RGB")
    return small.resize((SIZE, SIZE), Image.Resampling.NEAREST)


STYLES: dict[str, Callable[[Image.Image, Draws], Image.Image]] = {
    "a pencil sketch of": pencil,
    "a watercolor of": watercolor,
    "pixel art of": pixel_art,
}
"""What a caption says: what is done."""
