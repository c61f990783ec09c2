"""Antialiased shapes in a box of 100 × 100 units, with a skin that patterns are laid on.

Owns how a shape becomes pixels; must not know things or places.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pocket.world.colours import RGB
    from pocket.world.looks import Look

Point = tuple[float, float]

OVERSAMPLE = 3
"""Shapes are drawn this many times larger and averaged down: pillow itself draws hard edges."""


class Pen:
    """Draws one thing into a transparent square; y grows downwards, and things stand at y = 98.

    Shapes drawn with `skin=True` take the individual's pattern, and shapes drawn over them hide it again.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._k = size * OVERSAMPLE / 100
        self._n = size * OVERSAMPLE
        self._image = Image.new("RGBA", (self._n, self._n))
        self._skin = Image.new("L", (self._n, self._n))
        self._draw = ImageDraw.Draw(self._image)
        self._mask = ImageDraw.Draw(self._skin)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: RGB, *, skin: bool = False) -> None:
        """An ellipse round (x, y) with half axes rx and ry."""
        k = self._k
        self._both("ellipse", skin, colour, [(x - rx) * k, (y - ry) * k, (x + rx) * k, (y + ry) * k])

    def shape(self, points: Sequence[Point], colour: RGB, *, skin: bool = False) -> None:
        """A filled polygon."""
        self._both("polygon", skin, colour, self._scaled(points))

    def box(
        self, x0: float, y0: float, x1: float, y1: float, colour: RGB, *, round_by: float = 0, skin: bool = False
    ) -> None:
        """A rectangle with rounded corners."""
        k = self._k
        self._both("rounded_rectangle", skin, colour, [x0 * k, y0 * k, x1 * k, y1 * k], radius=round_by * k)

    def line(self, points: Sequence[Point], width: float, colour: RGB, *, skin: bool = False) -> None:
        """A stroke with round ends."""
        self._both("line", skin, colour, self._scaled(points), width=max(1, round(width * self._k)), joint="curve")
        for x, y in (points[0], points[-1]):
            self.oval(x, y, width / 2, width / 2, colour, skin=skin)

    def curve(self, start: Point, bend: Point, end: Point, width: float, colour: RGB) -> None:
        """A stroke along a quadratic Bézier curve."""
        (x0, y0), (x1, y1), (x2, y2) = start, bend, end
        steps = [i / 10 for i in range(11)]
        points = [
            (
                (1 - t) ** 2 * x0 + 2 * t * (1 - t) * x1 + t * t * x2,
                (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y1 + t * t * y2,
            )
            for t in steps
        ]
        self.line(points, width, colour)

    def arc(
        self, x: float, y: float, rx: float, ry: float, *, degrees: tuple[int, int], width: float, colour: RGB
    ) -> None:
        """A part of an ellipse's outline, clockwise from the right; it leaves the skin below it as it is."""
        k = self._k
        corners = [(x - rx) * k, (y - ry) * k, (x + rx) * k, (y + ry) * k]
        self._draw.arc(corners, *degrees, fill=colour, width=max(1, round(width * k)))

    def dome(self, x0: float, y0: float, x1: float, y1: float, colour: RGB) -> None:
        """The upper half of the ellipse in that box, as skin."""
        k = self._k
        self._both("pieslice", True, colour, [x0 * k, y0 * k, x1 * k, y1 * k], start=180, end=360)

    def pattern(self, look: Look, colour: RGB, *, x: float = 50, y: float = 60, r: float = 40) -> None:
        """Lay the individual's spots, stripes or patches on the skin drawn so far, round (x, y)."""
        if look.pattern == "plain":
            return
        marks = Image.new("L", (self._n, self._n))
        draw = ImageDraw.Draw(marks)
        lay = {
            "spotted": self._spots,
            "striped": self._stripes,
            "patched": self._patches,
            "checked": self._checks,
            "starred": self._stars,
            "ringed": self._rings,
            "halved": self._half,
        }[look.pattern]
        lay(draw, look, x, y, r)
        where = ImageChops.multiply(marks, self._skin)
        self._image.paste(Image.new("RGBA", self._image.size, (*colour, 255)), (0, 0), where)

    def picture(self) -> Image.Image:
        """What has been drawn, RGBA, size × size."""
        return self._image.resize((self.size, self.size), Image.Resampling.BOX)

    def _spots(self, draw: ImageDraw.ImageDraw, look: Look, x: float, y: float, _r: float) -> None:
        pitch, radius = 15 + 6 * look.p[2], 4.4 + 2.4 * look.p[3]
        for i in range(-6, 7):
            for j in range(-6, 7):
                self._mark(draw, x + (i + (j % 2) / 2) * pitch, y + j * pitch * 0.8, radius)

    def _stripes(self, draw: ImageDraw.ImageDraw, look: Look, x: float, y: float, _r: float) -> None:
        """Chevrons: they look like fur on round bodies and like awnings on boxes."""
        pitch = 13 + 6 * look.p[2]
        width = round(pitch * (0.36 + 0.18 * look.p[3]) * self._k)
        for j in range(-8, 9):
            v = y + j * pitch
            draw.line(self._scaled([(x - 60, v - 10), (x, v), (x + 60, v - 10)]), fill=255, width=width, joint="curve")

    def _patches(self, draw: ImageDraw.ImageDraw, look: Look, x: float, y: float, r: float) -> None:
        radius = 15 + 6 * look.p[3]
        self._mark(draw, x - 14 + 8 * look.p[2], y - r * 0.55, radius)
        self._mark(draw, x + 16 - 8 * look.p[3], y + r * 0.5, radius)

    def _checks(self, draw: ImageDraw.ImageDraw, look: Look, x: float, y: float, _r: float) -> None:
        side = 9 + 3 * look.p[2]
        for i in range(-8, 8):
            for j in range(-8, 8):
                if (i + j) % 2:
                    corner = x + i * side, y + j * side
                    draw.rectangle([*self._scaled([corner, (corner[0] + side, corner[1] + side)])], fill=255)

    def _stars(self, draw: ImageDraw.ImageDraw, look: Look, x: float, y: float, _r: float) -> None:
        pitch, size = 20 + 5 * look.p[2], 8 + 2 * look.p[3]
        for i in range(-4, 5):
            for j in range(-4, 5):
                middle = x + (i + (j % 2) / 2) * pitch, y + j * pitch * 0.8
                draw.polygon(self._scaled(_star(*middle, size)), fill=255)

    def _rings(self, draw: ImageDraw.ImageDraw, look: Look, x: float, y: float, _r: float) -> None:
        k = self._k
        for r in range(6, 80, round(12 + 4 * look.p[2])):
            draw.ellipse([(x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k], outline=255, width=round(5 * k))

    def _half(self, draw: ImageDraw.ImageDraw, _look: Look, x: float, _y: float, _r: float) -> None:
        """All that is right of the middle."""
        draw.rectangle([x * self._k, 0, self._n, self._n], fill=255)

    def _mark(self, draw: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
        k = self._k
        draw.ellipse([(x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k], fill=255)

    def _both(self, method: str, skin: bool, colour: RGB, *args: Any, **kwargs: Any) -> None:
        """Draw on the picture, and say on the skin's mask whether patterns may show there."""
        getattr(self._draw, method)(*args, **kwargs, fill=colour)
        getattr(self._mask, method)(*args, **kwargs, fill=255 if skin else 0)

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self._k, y * self._k) for x, y in points]


def _star(x: float, y: float, r: float) -> list[Point]:
    """Five points round (x, y), the first one up."""
    radii = [r if i % 2 == 0 else 0.42 * r for i in range(10)]
    angles = [math.pi * (i / 5 - 0.5) for i in range(10)]
    return [(x + s * math.cos(a), y + s * math.sin(a)) for s, a in zip(radii, angles, strict=True)]
