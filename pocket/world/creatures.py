"""Five with bodies of their own: frog, owl, penguin, fish, robot.

Owns their shapes; must not know scenes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket.world.colours import BEAK, INK, WHITE, dark, light
from pocket.world.parts import SIDES, eyes, wear

if TYPE_CHECKING:
    from pocket.world.looks import Look
    from pocket.world.pen import Pen

FEET = (242, 158, 48)


def frog(pen: Pen, look: Look) -> None:
    main, second = look.rgb("main"), look.rgb("second")
    w = 30 + 5 * look.p[0]
    for side in SIDES:
        pen.oval(50 + side * 28, 88, 16, 10, dark(main, 0.12), skin=True)
        pen.oval(50 + side * 17, 34, 11, 11, main, skin=True)
    pen.oval(50, 74, 30, 24, main, skin=True)
    pen.oval(50, 50, w, 21, main, skin=True)
    pen.pattern(look, dark(main, 0.35) if look.pattern == "striped" else second)
    pen.oval(50, 82, 19, 15, light(second, 0.4))
    pen.arc(50, 48, w * 0.72, 15, degrees=(15, 165), width=4, colour=dark(main, 0.6))
    eyes(pen, 50, 33, 17, 6, white=True)
    wear(pen, look, x=50, neck=70, half=22, eye_y=33, gap=17)


def owl(pen: Pen, look: Look) -> None:
    main, second = look.rgb("main"), look.rgb("second")
    w = 28 + 5 * look.p[0]
    for side in SIDES:
        pen.shape([(50 + side * 28, 36), (50 + side * 27, 10 - 5 * look.p[1]), (50 + side * 6, 22)], main, skin=True)
    pen.oval(50, 58, w, 40, main, skin=True)
    pen.pattern(look, dark(main, 0.4) if look.pattern == "striped" else second)
    for side in SIDES:
        pen.oval(50 + side * (w - 3), 64, 9, 24, dark(main, 0.25))
        pen.oval(50 + side * 12, 97, 7, 4, BEAK)
    pen.oval(50, 74, 16, 20, light(second, 0.4))
    for side in SIDES:
        pen.oval(50 + side * 13, 40, 14, 14, light(second, 0.6))
    eyes(pen, 50, 40, 13, 7.5)
    pen.shape([(44, 46), (56, 46), (50, 59)], BEAK)
    wear(pen, look, x=50, neck=62, half=22, eye_y=40, gap=13)


def penguin(pen: Pen, look: Look) -> None:
    main, second = look.rgb("main"), look.rgb("second")
    w = 25 + 5 * look.p[0]
    for side in SIDES:
        pen.oval(50 + side * (w + 2), 62, 7, 20 + 4 * look.p[1], dark(main, 0.2))
        pen.oval(50 + side * 12, 96, 10, 5, FEET)
    pen.oval(50, 68, w, 29, main, skin=True)
    pen.oval(50, 32, 21, 21, main, skin=True)
    pen.pattern(look, light(main, 0.3) if look.pattern == "striped" else second)
    front = light(second, 0.7)
    pen.oval(50, 74, w * 0.68, 22, front)
    pen.oval(42, 36, 10, 11, front)
    pen.oval(58, 36, 10, 11, front)
    eyes(pen, 50, 32, 10, 5.4)
    pen.shape([(41, 39), (59, 39), (50, 50)], FEET)
    wear(pen, look, x=50, neck=53, half=21, eye_y=32, gap=10)


def fish(pen: Pen, look: Look) -> None:
    """Seen from the side, swimming to the left; it wears nothing."""
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    h = 24 + 7 * look.p[0]
    pen.shape([(68, 56), (97, 32 - 4 * look.p[1]), (90, 56), (97, 82 + 4 * look.p[1])], accent)
    pen.shape([(34, 36), (62, 20 - 5 * look.p[1]), (68, 42)], accent)
    pen.shape([(40, 74), (58, 94), (62, 72)], accent)
    pen.oval(43, 56, 37, h, main, skin=True)
    pen.pattern(look, dark(main, 0.35) if look.pattern == "striped" else second, x=45, y=56, r=30)
    pen.oval(24, 60, 16, h * 0.6, light(second, 0.3))
    pen.oval(23, 49, 10, 10, WHITE)
    pen.oval(21, 49, 6, 6.6, INK)
    pen.oval(19.4, 46.6, 2.4, 2.4, WHITE)
    pen.oval(52, 60, 9, 6, dark(accent, 0.1))


def robot(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    w = 27 + 4 * look.p[0]
    pen.line([(50, 16), (50, 7)], 4, dark(main, 0.4))
    pen.oval(50, 7, 6, 6, accent)
    for side in SIDES:
        leg, ear = 50 + side * 13, 50 + side * (w + 2)
        pen.line([(50 + side * 25, 62), (50 + side * 38, 76)], 7, dark(main, 0.25))
        pen.oval(50 + side * 39, 78, 6, 6, accent)
        pen.box(leg - 7, 86, leg + 7, 98, dark(main, 0.3), round_by=3)
        pen.box(ear - 3, 26, ear + 3, 40, accent, round_by=2)
    pen.box(24, 54, 76, 90, main, round_by=7, skin=True)
    pen.box(50 - w, 14, 50 + w, 52, main, round_by=9, skin=True)
    pen.pattern(look, second, y=60, r=26)
    pen.box(50 - w + 6, 21, 50 + w - 6, 45, INK, round_by=7)
    for side in SIDES:
        pen.oval(50 + side * 12, 33, 6.5, 7.5, light(accent, 0.4))
    pen.box(36, 64, 64, 80, light(second, 0.4), round_by=3)
    pen.oval(44, 72, 3.6, 3.6, accent)
    pen.oval(56, 72, 3.6, 3.6, dark(accent, 0.3))
    wear(pen, look, x=50, neck=54, half=22, eye_y=33, gap=12)
