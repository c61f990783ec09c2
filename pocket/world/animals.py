"""Seven animals that sit: dog, cat, rabbit, fox, lion, elephant, horse.

Owns their ears, snouts and tails; must not know scenes. The body they share is `parts.sitting`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pocket.world.colours import INK, NOSE, WHITE, dark, light
from pocket.world.parts import SIDES, Animal, Head, sitting

if TYPE_CHECKING:
    from pocket.world.looks import Look
    from pocket.world.pen import Pen


def dog(pen: Pen, look: Look) -> None:
    sitting(pen, look, Animal(ears=_dog_ears, snout=_dog_snout, tail=_dog_tail))


def cat(pen: Pen, look: Look) -> None:
    sitting(pen, look, Animal(ears=_cat_ears, snout=_cat_snout, tail=_cat_tail))


def rabbit(pen: Pen, look: Look) -> None:
    parts = Animal(ears=_rabbit_ears, snout=_rabbit_snout, tail=_rabbit_tail, head=(50, 50, 23, 19), body=(21, 21))
    sitting(pen, look, parts)


def fox(pen: Pen, look: Look) -> None:
    sitting(pen, look, Animal(ears=_fox_ears, snout=_fox_snout, tail=_fox_tail, head=(48, 36, 26, 20), body=(21, 25)))


def lion(pen: Pen, look: Look) -> None:
    sitting(
        pen, look, Animal(ears=_lion_mane, snout=_lion_snout, tail=_lion_tail, head=(50, 38, 21, 20), body=(21, 23))
    )


def elephant(pen: Pen, look: Look) -> None:
    parts = Animal(
        ears=_elephant_ears, snout=_elephant_trunk, tail=_elephant_tail, head=(48, 36, 23, 23), body=(26, 24)
    )
    sitting(pen, look, parts)


def horse(pen: Pen, look: Look) -> None:
    parts = Animal(ears=_horse_ears, snout=_horse_snout, tail=_horse_tail, head=(48, 34, 18, 25), body=(24, 25))
    sitting(pen, look, parts)


def _dog_ears(pen: Pen, look: Look, head: Head) -> None:
    plain = look.pattern == "plain"
    colour = dark(look.rgb("second"), 0.25) if plain else dark(look.rgb("main"), 0.35)
    for side in SIDES:
        pen.oval(head.x + side * head.w * 0.98, head.y + 4, 8.5, 15 + 5 * look.p[2], colour)


def _dog_snout(pen: Pen, look: Look, head: Head) -> None:
    pen.oval(head.x, head.y + 11, 14, 10, light(look.rgb("second"), 0.3))
    pen.oval(head.x, head.y + 7, 6.5, 5, INK)


def _dog_tail(pen: Pen, look: Look, _head: Head) -> None:
    pen.curve((66, 84), (88, 84), (90, 58 + 8 * look.p[3]), 7, look.rgb("main"))


def _cat_ears(pen: Pen, look: Look, head: Head) -> None:
    x, y, w, h, tall = head.x, head.y, head.w, head.h, look.p[2]
    inner = light(look.rgb("accent"), 0.4)
    for side in SIDES:
        outline = [
            (x + side * w * 0.95, y - 2),
            (x + side * w * 0.85, y - h - 12 - 5 * tall),
            (x + side * w * 0.15, y - h * 0.8),
        ]
        inside = [
            (x + side * w * 0.8, y - 10),
            (x + side * w * 0.76, y - h - 4 - 4 * tall),
            (x + side * w * 0.36, y - h * 0.8),
        ]
        pen.shape(outline, look.rgb("main"), skin=True)
        pen.shape(inside, inner)


def _cat_snout(pen: Pen, look: Look, head: Head) -> None:
    """Whiskers are wedges: thin lines do not survive the latents."""
    x, y = head.x, head.y
    whisker = dark(look.rgb("main"), 0.3)
    for side in SIDES:
        pen.shape([(x + side * 9, y + 11), (x + side * 31, y + 5), (x + side * 31, y + 10)], whisker)
        pen.shape([(x + side * 9, y + 12), (x + side * 30, y + 14), (x + side * 28, y + 18)], whisker)
    pen.oval(x, y + 11, 11, 8, light(look.rgb("second"), 0.45))
    pen.shape([(x - 5, y + 5), (x + 5, y + 5), (x, y + 11)], NOSE)


def _cat_tail(pen: Pen, look: Look, _head: Head) -> None:
    pen.curve((64, 90), (96, 92), (86, 56), 6.5, look.rgb("main"))


def _rabbit_ears(pen: Pen, look: Look, head: Head) -> None:
    inner = light(look.rgb("accent"), 0.35)
    for side in SIDES:
        x = head.x + side * (11 + 3 * look.p[3])
        pen.oval(x, head.y - head.h - 6, 7, 20, look.rgb("main"), skin=True)
        pen.oval(x, head.y - head.h - 5, 3.6, 14, inner)


def _rabbit_snout(pen: Pen, look: Look, head: Head) -> None:
    x, y = head.x, head.y
    pen.oval(x, y + 9, 11, 8, light(look.rgb("second"), 0.5))
    pen.oval(x, y + 5, 4.5, 3.5, NOSE)
    pen.box(x - 4, y + 11, x + 4, y + 18, WHITE, round_by=1)


def _rabbit_tail(pen: Pen, look: Look, _head: Head) -> None:
    pen.oval(76, 84, 9, 9, light(look.rgb("second"), 0.5))


def _fox_ears(pen: Pen, look: Look, head: Head) -> None:
    x, y, w, h = head.x, head.y, head.w, head.h
    for side in SIDES:
        outline = [(x + side * w, y), (x + side * w * 1.02, y - h - 13), (x + side * w * 0.2, y - h * 0.7)]
        tip = [(x + side * w * 0.9, y - 14), (x + side * w * 0.95, y - h - 11), (x + side * w * 0.6, y - h * 0.8)]
        pen.shape(outline, look.rgb("main"), skin=True)
        pen.shape(tip, INK)


def _fox_snout(pen: Pen, look: Look, head: Head) -> None:
    x, y, w, h = head.x, head.y, head.w, head.h
    cheek = light(look.rgb("second"), 0.6)
    pen.shape([(x - w * 0.95, y + 4), (x - 5, y + 2), (x, y + h + 3)], cheek)
    pen.shape([(x + w * 0.95, y + 4), (x + 5, y + 2), (x, y + h + 3)], cheek)
    pen.oval(x, y + h - 2, 6, 5, INK)


def _fox_tail(pen: Pen, look: Look, _head: Head) -> None:
    pen.oval(80, 74, 12, 22, look.rgb("main"), skin=True)
    pen.oval(82, 58, 8, 9, light(look.rgb("second"), 0.6))


def _lion_mane(pen: Pen, look: Look, head: Head) -> None:
    """A wreath of fourteen locks, and two ears in front of it."""
    x, y, w, h = head.x, head.y, head.w, head.h
    mane, locks, radius = dark(look.rgb("second"), 0.2), 14, w + 9 + 3 * look.p[2]
    for i in range(locks):
        a = 2 * math.pi * i / locks
        pen.oval(x + radius * 0.82 * math.cos(a), y + 2 + radius * 0.8 * math.sin(a), 9, 9, mane)
    pen.oval(x, y + 2, radius * 0.9, radius * 0.88, mane)
    for side in SIDES:
        pen.oval(x + side * w * 0.8, y - h * 0.75, 6.5, 6.5, look.rgb("main"))


def _lion_snout(pen: Pen, look: Look, head: Head) -> None:
    x, y = head.x, head.y
    pen.oval(x, y + 9, 11, 8, light(look.rgb("main"), 0.55))
    pen.shape([(x - 6.5, y + 4), (x + 6.5, y + 4), (x, y + 11)], INK)


def _lion_tail(pen: Pen, look: Look, _head: Head) -> None:
    pen.curve((64, 90), (92, 92), (90, 66), 6, look.rgb("main"))
    pen.oval(90, 62, 8, 9, dark(look.rgb("second"), 0.2))


def _elephant_ears(pen: Pen, look: Look, head: Head) -> None:
    x, y, w = head.x, head.y, head.w
    for side in SIDES:
        pen.oval(x + side * (w + 5), y - 2, 16 + 3 * look.p[2], 20, dark(look.rgb("main"), 0.1), skin=True)
        pen.oval(x + side * (w + 6), y - 1, 10, 13, light(look.rgb("second"), 0.25))


def _elephant_trunk(pen: Pen, look: Look, head: Head) -> None:
    """The trunk, and a tusk on either side."""
    x, y = head.x, head.y
    end = (x + 14 + 6 * look.p[3], y + 34)
    pen.curve((x, y + 4), (x - 2, y + 30), end, 10, dark(look.rgb("main"), 0.12))
    pen.shape([(x - 12, y + 12), (x - 7, y + 12), (x - 13, y + 24)], WHITE)
    pen.shape([(x + 7, y + 12), (x + 12, y + 12), (x + 15, y + 22)], WHITE)


def _elephant_tail(pen: Pen, look: Look, _head: Head) -> None:
    pen.curve((66, 84), (86, 86), (86, 68), 5, dark(look.rgb("main"), 0.2))


def _horse_ears(pen: Pen, look: Look, head: Head) -> None:
    """The mane behind the neck, and two ears in front of it."""
    x, y, w, h = head.x, head.y, head.w, head.h
    pen.curve((x + 12, y - h), (x + w + 16, y), (x + 18, y + 34), 12, dark(look.rgb("second"), 0.15))
    for side in SIDES:
        ear = [(x + side * 15, y - h * 0.5), (x + side * 14, y - h - 12), (x + side * 4, y - h * 0.85)]
        pen.shape(ear, look.rgb("main"), skin=True)


def _horse_snout(pen: Pen, look: Look, head: Head) -> None:
    """Muzzle, nostrils and forelock."""
    x, y, h = head.x, head.y, head.h
    pen.oval(x, y + 20, 15, 12, light(look.rgb("second"), 0.3))
    pen.oval(x - 6, y + 20, 3.2, 4.2, INK)
    pen.oval(x + 6, y + 20, 3.2, 4.2, INK)
    pen.oval(x, y - h + 2, 7, 10, dark(look.rgb("second"), 0.15))


def _horse_tail(pen: Pen, look: Look, _head: Head) -> None:
    pen.curve((68, 74), (96, 74), (88, 98), 9, dark(look.rgb("second"), 0.15))
