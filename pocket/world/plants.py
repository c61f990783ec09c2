"""Things that grow: tree, cactus, mushroom, apple.

Owns their shapes; must not know scenes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket.world.colours import COLOURS, LAMP, dark, light
from pocket.world.parts import SIDES, eyes

if TYPE_CHECKING:
    from pocket.world.looks import Look
    from pocket.world.pen import Pen

LEAVES = ((30, 42), (70, 42), (50, 26), (38, 56), (62, 56), (50, 44))


def tree(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    r = 24 + 4 * look.p[0]
    pen.shape([(43, 58), (57, 58), (60, 98), (40, 98)], dark(second, 0.15))
    for x, y in LEAVES:
        pen.oval(x, y, r, r * 0.86, main, skin=True)
    pen.pattern(look, light(main, 0.3) if look.pattern == "striped" else accent, y=40, r=30)
    if look.pattern == "plain":
        pen.oval(40, 28, 12, 8, light(main, 0.22))


def cactus(pen: Pen, look: Look) -> None:
    """A column with two arms and a flower, in a pot."""
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    left, right = 46 + 10 * look.p[0], 40 + 10 * look.p[1]
    pen.line([(50, 24), (50, 84)], 24, main, skin=True)
    pen.line([(50, left + 14), (24, left + 12), (23, left - 10)], 13, main, skin=True)
    pen.line([(50, right + 18), (76, right + 16), (77, right - 8)], 13, main, skin=True)
    pen.pattern(look, light(main, 0.35), y=60, r=30)
    pen.oval(50, 13, 8, 7, accent)
    pen.oval(50, 12, 3, 3, LAMP)
    pen.shape([(28, 76), (72, 76), (66, 99), (34, 99)], second)
    pen.box(25, 72, 75, 80, dark(second, 0.1), round_by=3)


def mushroom(pen: Pen, look: Look) -> None:
    main, second = look.rgb("main"), look.rgb("second")
    w, stem = 42 + 6 * look.p[0], 3 * look.p[1]
    pen.box(35 - stem, 52, 65 + stem, 98, light(second, 0.55), round_by=11)
    pen.dome(50 - w, 4, 50 + w, 112, main)
    pen.pattern(look, light(second, 0.5), y=36, r=26)
    pen.box(50 - w, 54, 50 + w, 61, dark(main, 0.2), round_by=3)
    eyes(pen, 50, 74, 8, 4.6)


def apple(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    w = 22 + 4 * look.p[0]
    for side in SIDES:
        pen.oval(50 + side * 17, 62, w + 3, 35, main, skin=True)
    pen.pattern(look, second, y=62, r=28)
    pen.oval(33, 50, 6, 10, light(main, 0.45))
    pen.curve((50, 36), (49, 20), (56, 10), 4.5, dark(COLOURS["brown"], 0.2))
    pen.oval(68, 18, 14 + 3 * look.p[1], 7, accent)
