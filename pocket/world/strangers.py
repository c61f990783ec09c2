"""Eight things that no training scene shows: what a concept can be that the base has never drawn.

Owns their shapes; must not know scenes. They are apart from `things.THINGS`, from which training draws.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pocket.world.colours import INK, dark, light
from pocket.world.parts import SIDES, eyes, wear
from pocket.world.pen import Pen

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from pocket.world.looks import Look


def snowman(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    for side in SIDES:
        pen.line([(50 + side * 20, 56), (50 + side * 42, 42 + 6 * look.p[0])], 4, dark(second))
    pen.oval(50, 78, 27 + 4 * look.p[1], 20, main, skin=True)
    pen.oval(50, 53, 20, 17, main, skin=True)
    pen.oval(50, 30, 17, 16, main, skin=True)
    pen.pattern(look, second)
    for y in (50, 60, 72):
        pen.oval(50, y, 3, 3, INK)
    eyes(pen, 50, 26, 7, 4)
    pen.shape([(48, 31), (48, 37), (68, 35)], accent)
    wear(pen, look, x=50, neck=44, half=19, eye_y=26, gap=7)


def teapot(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    pen.arc(80, 60, 16, 18, degrees=(0, 360), width=7, colour=dark(main, 0.12))
    pen.shape([(26, 58), (4, 34), (12, 30), (34, 74)], main, skin=True)
    pen.oval(52, 64, 31, 27 + 4 * look.p[0], main, skin=True)
    pen.pattern(look, second, y=64, r=26)
    pen.box(36, 92, 68, 98, dark(main, 0.2), round_by=3)
    pen.dome(34, 30, 70, 56, second)
    pen.oval(52, 28, 6, 6, accent)


def ghost(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    w = 28 + 5 * look.p[0]
    pen.oval(50, 38, w, 32, main, skin=True)
    pen.box(50 - w, 38, 50 + w, 86, main, skin=True)
    for i in range(4):
        pen.oval(50 - w + w / 4 + i * w / 2, 86, w / 4, 12, main, skin=True)
    pen.pattern(look, second, y=62, r=24)
    eyes(pen, 50, 36, 12, 7)
    pen.oval(50, 54, 6, 8, accent)
    wear(pen, look, x=50, neck=68, half=w * 0.9, eye_y=36, gap=12)


def umbrella(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    pen.line([(50, 10), (50, 88)], 4, dark(accent, 0.2))
    pen.arc(42, 88, 9, 9, degrees=(0, 180), width=4, colour=dark(accent, 0.2))
    pen.dome(6, 14, 94, 96 + 10 * look.p[0], main)
    pen.pattern(look, second, y=40, r=26)
    for x in (20, 50, 80):
        pen.oval(x, 56 + 5 * look.p[0], 15, 7, light(main, 0.5))
    pen.oval(50, 11, 4, 6, accent)


def sailboat(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    pen.line([(48, 6), (48, 76)], 4, dark(accent, 0.3))
    pen.shape([(52, 10), (52, 70), (90 + 4 * look.p[0], 70)], second, skin=True)
    pen.pattern(look, main, y=50, r=24)
    pen.shape([(44, 22), (44, 70), (14, 70)], light(second, 0.4))
    pen.shape([(4, 76), (96, 76), (80, 98), (20, 98)], main)
    pen.box(4, 76, 96, 82, accent)


def duck(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    pen.shape([(78, 62), (99, 48 + 8 * look.p[0]), (88, 84)], main, skin=True)
    pen.oval(54, 76, 37, 22, main, skin=True)
    pen.oval(30, 38, 21, 20, main, skin=True)
    pen.box(22, 44, 46, 74, main, skin=True)
    pen.pattern(look, second, y=74, r=22)
    pen.oval(62, 74, 17, 11, dark(main, 0.16))
    pen.shape([(14, 36), (-1, 44), (14, 50)], accent)
    eyes(pen, 30, 34, 7, 4.5)
    wear(pen, look, x=34, neck=58, half=15, eye_y=34, gap=7)


def sunflower(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    pen.line([(50, 50), (50, 98)], 6, dark(accent, 0.1))
    for side in SIDES:
        pen.oval(50 + side * 17, 82, 15, 7, accent)
    for i in range(12):
        angle = math.pi * i / 6
        pen.oval(50 + 25 * math.cos(angle), 36 + 25 * math.sin(angle), 9 + 2 * look.p[0], 9, main)
    pen.oval(50, 36, 19, 19, second, skin=True)
    pen.pattern(look, dark(second, 0.4), y=36, r=16)


def lamp(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    pen.box(46, 50, 54, 92, accent)
    pen.oval(50, 93, 24, 6, dark(accent, 0.2))
    pen.shape([(36, 10), (64, 10), (86 + 4 * look.p[0], 56), (14 - 4 * look.p[0], 56)], main, skin=True)
    pen.pattern(look, second, y=36, r=22)
    pen.box(14, 53, 86, 58, second)


STRANGERS: dict[str, Callable[[Pen, Look], None]] = {
    "snowman": snowman,
    "teapot": teapot,
    "ghost": ghost,
    "umbrella": umbrella,
    "sailboat": sailboat,
    "duck": duck,
    "sunflower": sunflower,
    "lamp": lamp,
}
"""By class word; each is one token of the vocabulary that no caption has."""


def stranger(word: str, look: Look, size: int) -> Image.Image:
    """One of STRANGERS on a transparent square of size × size pixels."""
    pen = Pen(size)
    STRANGERS[word](pen, look)
    return pen.picture()
