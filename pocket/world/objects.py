"""Things made by people: car, rocket, house, castle, boot, balloon, top hat, crown.

Owns their shapes; must not know scenes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket.world.colours import GLASS, INK, LAMP, WHITE, dark, light
from pocket.world.parts import SIDES

if TYPE_CHECKING:
    from pocket.world.looks import Look
    from pocket.world.pen import Pen

WINDSCREEN = (196, 228, 244)
PORTHOLE = (180, 224, 246)


def car(pen: Pen, look: Look) -> None:
    """Seen from the side, driving to the right."""
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    roof, back = 34 - 10 * look.p[0], 6 * look.p[1]
    pen.shape([(20, 60), (32, roof), (68 + back, roof), (84, 60)], main, skin=True)
    pen.box(3, 56, 97, 86, main, round_by=12, skin=True)
    pen.pattern(look, second, y=64, r=30)
    pen.shape([(28, 58), (36, roof + 6), (50, roof + 6), (50, 58)], WINDSCREEN)
    pen.shape([(55, 58), (55, roof + 6), (66 + back, roof + 6), (75, 58)], WINDSCREEN)
    pen.box(3, 74, 97, 80, second)
    pen.oval(93, 66, 4, 5, (255, 236, 150))
    pen.oval(7, 66, 3.5, 5, (232, 70, 60))
    for x in (25, 75):
        pen.oval(x, 86, 13, 12, INK)
        pen.oval(x, 86, 6.5, 6, light(accent, 0.3))


def rocket(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    w = 17 + 5 * look.p[0]
    pen.shape([(50 - w * 0.6, 82), (50, 100), (50 + w * 0.6, 82)], (255, 160, 50))
    pen.shape([(50 - w * 0.3, 82), (50, 93), (50 + w * 0.3, 82)], (255, 230, 120))
    for side in SIDES:
        fin = [(50 + side * w * 0.8, 54), (50 + side * (w + 17), 88), (50 + side * w * 0.6, 80)]
        pen.shape(fin, accent)
    pen.oval(50, 52, w, 36, main, skin=True)
    pen.box(50 - w, 48, 50 + w, 70, main, round_by=2, skin=True)
    pen.shape([(50 - w, 68), (50 - w * 0.62, 84), (50 + w * 0.62, 84), (50 + w, 68)], main, skin=True)
    pen.pattern(look, second, y=60, r=20)
    pen.shape([(50 - w * 0.78, 30), (50, 1), (50 + w * 0.78, 30)], accent)
    pen.oval(50, 46, 10, 10, second)
    pen.oval(50, 46, 7, 7, PORTHOLE)
    pen.box(47.5, 66, 52.5, 90, dark(accent, 0.15), round_by=2)


def house(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    eaves = 52 - 8 * look.p[0]
    pen.box(66, 18, 77, 46, dark(accent, 0.2))
    pen.box(14, eaves - 2, 86, 98, main, skin=True)
    pen.pattern(look, second if look.pattern == "patched" else light(main, 0.35), y=70, r=30)
    pen.shape([(3, eaves), (50, 10 - 4 * look.p[1]), (97, eaves)], second)
    pen.box(42, 68, 59, 98, accent, round_by=2)
    pen.oval(55, 84, 2.4, 2.4, LAMP)
    for x in (20, 66):
        pen.box(x, 62, x + 15, 78, WHITE, round_by=1)
        pen.box(x + 2, 64, x + 13, 76, GLASS)
        pen.line([(x + 7.5, 63), (x + 7.5, 77)], 2.4, WHITE)
    pen.oval(50, eaves - 14, 6, 6, GLASS)


def castle(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    top, towers = 40 - 8 * look.p[0], (5, 73)
    pen.box(20, 52, 80, 98, main, skin=True)
    for x in towers:
        pen.box(x, top, x + 22, 98, main, skin=True)
    pen.pattern(look, second if look.pattern == "patched" else light(main, 0.3), y=70, r=30)
    for x in (26, 40, 54, 68):
        pen.box(x - 2, 44, x + 6, 54, main)
    for x in towers:
        pen.shape([(x - 3, top + 1), (x + 11, top - 24 - 4 * look.p[1]), (x + 25, top + 1)], second)
        pen.box(x + 8, top + 14, x + 14, top + 26, INK, round_by=3)
    pen.line([(50, 44), (50, 14)], 3, dark(main, 0.5))
    pen.shape([(51, 12), (74, 20), (51, 29)], accent)
    pen.box(40, 70, 60, 98, dark(accent, 0.3), round_by=9)
    pen.box(40, 82, 60, 98, dark(accent, 0.3))


def boot(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    top = 12 + 14 * look.p[0]
    pen.box(24, top, 60, 84, main, round_by=4, skin=True)
    pen.oval(66, 78, 28, 17, main, skin=True)
    pen.box(24, 70, 70, 94, main, round_by=6, skin=True)
    pen.pattern(look, second, x=48, y=58, r=26)
    pen.box(20, 88, 96, 98, dark(second, 0.35), round_by=4)
    pen.box(20, top - 4, 64, top + 10, accent, round_by=4)
    for j in range(3):
        pen.line([(50, top + 22 + 12 * j), (62, top + 19 + 12 * j)], 4, light(accent, 0.4))


def balloon(pen: Pen, look: Look) -> None:
    main, second = look.rgb("main"), look.rgb("second")
    w = 29 + 5 * look.p[0]
    pen.curve((50, 74), (40 + 20 * look.p[1], 84), (50, 99), 3, dark(second, 0.4))
    pen.shape([(50, 68), (44, 77), (56, 77)], dark(main, 0.15))
    pen.oval(50, 37, w, 35, main, skin=True)
    pen.pattern(look, second, y=38, r=26)
    pen.oval(38, 24, 6, 9, light(main, 0.55))


def top_hat(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    top, w = 18 + 16 * look.p[0], 27 + 4 * look.p[1]
    pen.shape([(50 - w - 3, top), (50 + w + 3, top), (50 + w, 86), (50 - w, 86)], main, skin=True)
    pen.pattern(look, second, y=52, r=24)
    pen.oval(50, top, w + 3, 6, light(main, 0.18))
    pen.box(50 - w, 70, 50 + w, 84, accent)
    pen.oval(50, 89, 47, 9, main)


def crown(pen: Pen, look: Look) -> None:
    main, second, accent = look.rgb("main"), look.rgb("second"), look.rgb("accent")
    h = 34 - 12 * look.p[0]
    outline = [(8, 92), (4, h + 6), (28, 62), (50, h - 8), (72, 62), (96, h + 6), (92, 92)]
    pen.shape(outline, main, skin=True)
    pen.pattern(look, light(main, 0.4), y=70, r=20)
    pen.box(8, 82, 92, 98, dark(main, 0.14), round_by=3)
    for x, y in ((7, h + 5), (50, h - 9), (93, h + 5)):
        pen.oval(x, y, 6, 6, accent)
    for x in (28, 50, 72):
        pen.oval(x, 90, 5, 5, second)
