"""Thirteen places and ten plain backgrounds: their names in captions, skies and grounds.

Owns what lies behind the subjects; must not know subjects. What stands in a place is `scenery`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from pocket.world.scenery import SCENERY, SIZE, Land, jittered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pocket.world.colours import RGB
    from pocket.world.draws import Draws

PLACES = {
    "on a beach": "beach",
    "in the snow": "snow",
    "in a forest": "forest",
    "in a desert": "desert",
    "in a city": "city",
    "at night": "night",
    "in the mountains": "mountains",
    "in a meadow": "meadow",
    "under the sea": "sea",
    "in a room": "room",
    "on a road": "road",
    "on the moon": "moon",
    "at sunset": "sunset",
}
"""What a caption says: the place's own name."""

PLAIN: dict[str, RGB] = {
    "red": (214, 60, 55),
    "orange": (236, 140, 50),
    "yellow": (245, 215, 80),
    "green": (96, 170, 90),
    "blue": (70, 120, 210),
    "purple": (140, 90, 180),
    "pink": (240, 160, 190),
    "white": (245, 245, 245),
    "gray": (150, 150, 150),
    "black": (30, 30, 34),
}
"""Plain backgrounds; `on_plain` says them."""

HORIZONS: dict[str, tuple[RGB, RGB, RGB, RGB]] = {
    "snow": ((170, 195, 220), (225, 235, 245), (245, 248, 252), (215, 225, 238)),
    "forest": ((150, 200, 170), (110, 160, 110), (80, 120, 55), (55, 90, 40)),
    "desert": ((120, 180, 235), (245, 225, 190), (230, 180, 105), (205, 145, 75)),
    "city": ((130, 170, 210), (210, 215, 220), (110, 112, 118), (80, 82, 88)),
    "night": ((8, 10, 40), (35, 35, 90), (25, 32, 50), (12, 16, 30)),
    "mountains": ((110, 170, 230), (205, 225, 240), (120, 160, 90), (85, 125, 65)),
    "meadow": ((110, 185, 240), (200, 232, 250), (125, 195, 80), (80, 150, 55)),
    "room": ((235, 215, 190), (225, 200, 170), (165, 110, 70), (135, 85, 50)),
    "road": ((120, 185, 235), (205, 225, 235), (110, 170, 80), (95, 150, 70)),
    "moon": ((5, 5, 12), (15, 15, 28), (175, 175, 180), (125, 125, 132)),
    "sunset": ((95, 45, 110), (250, 150, 70), (110, 60, 70), (60, 30, 50)),
}
"""Top and bottom of the sky, top and bottom of the ground; between them colours run evenly."""


def on_plain(colour: str) -> str:
    """What a caption says of a plain background."""
    return f"on {'an' if colour[0] in 'aeiou' else 'a'} {colour} background"


EVERYWHERE: dict[str, str] = {**PLACES, **{on_plain(colour): colour for colour in PLAIN}}
"""Every place that a caption can name, plain backgrounds too: what it is called inside."""


def background(place: str, draws: Draws) -> Image.Image:
    """The empty place, RGB, SIZE × SIZE.

    Args:
        place: as captions say it, one of EVERYWHERE.
        draws: decides horizon, hues and what stands where.
    """
    kind = EVERYWHERE[place]
    horizon = int(SIZE * draws.between(0.45, 0.62))
    pixels = _ground(kind, horizon, draws)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if kind in SCENERY:
        SCENERY[kind](Land(draw=ImageDraw.Draw(image), horizon=horizon, draws=draws))
    return image


def _ground(kind: str, horizon: int, draws: Draws) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = np.zeros((SIZE, SIZE, 3), np.float32)
    if kind == "beach":
        shore = horizon + int(SIZE * 0.13)
        _run(pixels[:horizon], (90, 170, 235), (190, 225, 245), draws)
        _run(pixels[horizon:], (235, 214, 160), (222, 190, 130), draws)
        _run(pixels[horizon:shore], (40, 130, 190), (110, 195, 215), draws)
    elif kind == "sea":
        _run(pixels, (40, 140, 200), (8, 45, 95), draws)
    elif kind in PLAIN:
        pixels[:] = jittered(PLAIN[kind], draws, 8)
    else:
        sky_top, sky_end, ground_top, ground_end = HORIZONS[kind]
        _run(pixels[:horizon], sky_top, sky_end, draws)
        _run(pixels[horizon:], ground_top, ground_end, draws)
    return pixels


def _run(rows: NDArray[np.float32], top: RGB, bottom: RGB, draws: Draws) -> None:
    """Fill rows (h, w, 3) with colours that run from top to bottom, each jittered once."""
    first, last = np.array(jittered(top, draws)), np.array(jittered(bottom, draws))
    share = np.linspace(0, 1, len(rows))[:, None, None]
    rows[:] = first * (1 - share) + last * share
