"""Twelve named colours, how they shade, and which of them usually go together.

Owns RGB values and colour names; must not know what is painted with them.
"""

from __future__ import annotations

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (214, 52, 48),
    "orange": (240, 138, 40),
    "yellow": (247, 208, 62),
    "green": (76, 166, 80),
    "cyan": (52, 190, 196),
    "blue": (56, 108, 214),
    "purple": (138, 82, 190),
    "pink": (244, 142, 184),
    "brown": (142, 90, 52),
    "white": (246, 244, 240),
    "gray": (146, 150, 158),
    "black": (48, 48, 56),
}
NAMES = tuple(COLOURS)

INK: RGB = (34, 32, 40)
WHITE: RGB = (252, 252, 250)
BEAK: RGB = (240, 160, 50)
LAMP: RGB = (255, 230, 120)
NOSE: RGB = (226, 112, 128)
GLASS: RGB = (170, 214, 240)

PARTNER = {
    "red": "white",
    "orange": "white",
    "yellow": "brown",
    "green": "yellow",
    "cyan": "white",
    "blue": "yellow",
    "purple": "pink",
    "pink": "white",
    "brown": "white",
    "white": "pink",
    "gray": "pink",
    "black": "white",
}
"""The second colour of an individual, where nothing else is said."""

ACCENT = {
    "red": "yellow",
    "orange": "blue",
    "yellow": "red",
    "green": "red",
    "cyan": "orange",
    "blue": "red",
    "purple": "yellow",
    "pink": "purple",
    "brown": "green",
    "white": "red",
    "gray": "red",
    "black": "red",
}
"""The colour of small parts, where nothing else is said."""


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """The colour that lies that share of the way from a to b."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def dark(colour: RGB, share: float = 0.22) -> RGB:
    return mix(colour, (20, 16, 30), share)


def light(colour: RGB, share: float = 0.35) -> RGB:
    return mix(colour, (255, 252, 245), share)


def held_out(main: str, second: str) -> bool:
    """Whether no training scene shows this pair of colours: concepts to learn have one of them."""
    return (NAMES.index(main) * 5 + NAMES.index(second) * 3) % 7 == 0 and PARTNER[main] != second
