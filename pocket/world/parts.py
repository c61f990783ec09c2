"""Parts that several drawings share: eyes, what is worn round the neck or on the nose, a sitting animal.

Owns their shapes; must not know which thing they belong to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocket.world.colours import INK, LAMP, WHITE, dark, light

if TYPE_CHECKING:
    from pocket.world.colours import RGB
    from pocket.world.looks import Look
    from pocket.world.pen import Pen

SIDES = (-1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An ellipse: its middle and its half axes."""

    x: float
    y: float
    w: float
    h: float


Part = Callable[["Pen", "Look", Head], None]
"""Draws one part of an animal, relative to its head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Animal:
    """What one sitting animal has of its own."""

    ears: Part
    snout: Part
    tail: Part
    head: tuple[float, float, float, float] = (50, 36, 27, 24)
    """x, y and half axes, before the individual's proportions."""
    body: tuple[float, float] = (24, 25)
    """Half axes."""


def sitting(pen: Pen, look: Look, animal: Animal) -> None:
    """A four-legged animal that sits and looks at us, from back to front."""
    main, second = look.rgb("main"), look.rgb("second")
    x, y, w, h = animal.head
    head = Head(x=x, y=y, w=w + (4 * look.p[0] - 2), h=h)
    width, height = animal.body[0] + 6 * look.p[1] - 3, animal.body[1]
    animal.tail(pen, look, head)
    animal.ears(pen, look, head)
    pen.oval(50, 76, width, height, main, skin=True)
    pen.oval(head.x, head.y, head.w, head.h, main, skin=True)
    pen.pattern(look, dark(main, 0.45) if look.pattern == "striped" else second)
    belly = light(second, 0.15) if look.pattern == "plain" else light(main, 0.45)
    pen.oval(50, 82, width * 0.56, height * 0.62, belly)
    pen.oval(38, 96, 9, 5, dark(main, 0.1))
    pen.oval(62, 96, 9, 5, dark(main, 0.1))
    animal.snout(pen, look, head)
    eyes(pen, head.x, head.y - 5, head.w * 0.48)
    wear(pen, look, x=head.x, neck=head.y + head.h - 1, half=width * 0.85, eye_y=head.y - 5, gap=head.w * 0.48)


def eyes(pen: Pen, x: float, y: float, gap: float, r: float = 6, *, white: bool = False) -> None:
    """Two large round eyes, `gap` to either side of x: at 64 pixels they must survive eight-pixel latents."""
    for side in SIDES:
        u = x + side * gap
        if white:
            pen.oval(u, y, r * 1.6, r * 1.6, WHITE)
        pen.oval(u, y, r, r * 1.1, INK)
        pen.oval(u - r * 0.3, y - r * 0.4, r * 0.42, r * 0.42, WHITE)


def wear(pen: Pen, look: Look, *, x: float, neck: float, half: float, eye_y: float, gap: float) -> None:
    """The individual's accessory, if it has one.

    Args:
        pen: draws over what is there.
        look: the individual's; its accent is the accessory's colour.
        x: middle of neck and face.
        neck: height of the neck.
        half: half width of a scarf.
        eye_y: height of the eyes.
        gap: how far the eyes are from x.
    """
    if look.accessory is not None:
        _WORN[look.accessory](pen, look.rgb("accent"), Wearer(x=x, neck=neck, half=half, eye_y=eye_y, gap=gap))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wearer:
    """What an accessory must know: `wear` says what each number is."""

    x: float
    neck: float
    half: float
    eye_y: float
    gap: float


def _scarf(pen: Pen, colour: RGB, of: Wearer) -> None:
    x, neck, half = of.x, of.neck, of.half
    pen.box(x - half, neck - 4, x + half, neck + 5, colour, round_by=4)
    end = [
        (x + half * 0.35, neck),
        (x + half * 0.8, neck),
        (x + half * 0.85, neck + 22),
        (x + half * 0.35, neck + 20),
    ]
    pen.shape(end, dark(colour, 0.12))


def _bow_tie(pen: Pen, colour: RGB, of: Wearer) -> None:
    x, neck = of.x, of.neck
    pen.shape([(x, neck + 2), (x - 14, neck - 6), (x - 14, neck + 10)], colour)
    pen.shape([(x, neck + 2), (x + 14, neck - 6), (x + 14, neck + 10)], colour)
    pen.oval(x, neck + 2, 4, 4, dark(colour))


def _glasses(pen: Pen, colour: RGB, of: Wearer) -> None:
    for side in SIDES:
        pen.arc(of.x + side * of.gap, of.eye_y, 11.5, 11.5, degrees=(0, 360), width=4, colour=colour)
    pen.line([(of.x - of.gap + 10, of.eye_y), (of.x + of.gap - 10, of.eye_y)], 3.5, colour)


def _flower(pen: Pen, colour: RGB, of: Wearer) -> None:
    x, y = of.x + of.gap * 1.6, of.eye_y - 18
    for i in range(6):
        angle = math.pi * i / 3
        pen.oval(x + 6 * math.cos(angle), y + 6 * math.sin(angle), 5, 5, colour)
    pen.oval(x, y, 4, 4, LAMP)


def _eye_patch(pen: Pen, colour: RGB, of: Wearer) -> None:
    pen.line([(of.x - of.half * 0.9, of.eye_y - 14), (of.x + of.half * 0.9, of.eye_y + 2)], 3, colour)
    pen.oval(of.x - of.gap, of.eye_y, 9, 9, colour)


def _medal(pen: Pen, colour: RGB, of: Wearer) -> None:
    pen.shape([(of.x - 8, of.neck), (of.x + 8, of.neck), (of.x, of.neck + 18)], colour)
    pen.oval(of.x, of.neck + 20, 8, 8, LAMP)
    pen.oval(of.x, of.neck + 20, 5, 5, dark(LAMP))


def _moustache(pen: Pen, colour: RGB, of: Wearer) -> None:
    for side in SIDES:
        pen.oval(of.x + side * 8, of.neck - 9, 10, 4.5, colour)
        pen.oval(of.x + side * 17, of.neck - 12, 4, 4, colour)


_WORN: dict[str, Callable[[Pen, RGB, Wearer], None]] = {
    "scarf": _scarf,
    "bow tie": _bow_tie,
    "glasses": _glasses,
    "flower": _flower,
    "eye patch": _eye_patch,
    "medal": _medal,
    "moustache": _moustache,
}
