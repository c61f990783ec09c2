"""What stands in each place: trees, dunes, houses, stars, waves; drawn over sky and ground.

Owns the shapes of thirteen places; must not know subjects or captions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import ImageDraw

    from pocket.world.colours import RGB
    from pocket.world.draws import Draws

SIZE = 128
"""Height and width of a scene in pixels."""

R = SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Land:
    """A place while it is drawn."""

    draw: ImageDraw.ImageDraw
    horizon: int
    """Row where the ground begins."""
    draws: Draws

    def disc(self, x: float, y: float, rx: float, ry: float, colour: RGB) -> None:
        self.draw.ellipse([x - rx, y - ry, x + rx, y + ry], fill=colour)

    def anywhere(self, top: float = 0, bottom: float = R) -> tuple[float, float]:
        """A point between two rows."""
        x = self.draws.between(0, R)
        return x, self.draws.between(top, bottom)


def jittered(colour: RGB, draws: Draws, by: float = 14) -> RGB:
    """The colour, each channel moved by at most `by` levels."""
    red, green, blue = (int(min(255, max(0, level + draws.between(-by, by)))) for level in colour)
    return red, green, blue


def beach(land: Land) -> None:
    for _ in range(2):
        x, y = land.anywhere(8, 26)
        land.draw.ellipse([x - 14, y - 4, x + 14, y + 5], fill=(250, 252, 255))


def snow(land: Land) -> None:
    for _ in range(24):
        x, y = land.anywhere()
        flake = land.draws.between(0.6, 1.8)
        land.disc(x, y, flake, flake, (255, 255, 255))


def forest(land: Land) -> None:
    between = land.draws.between
    for _ in range(7):
        x, height = between(0, R), between(40, 75)
        width, y = height * 0.42, land.horizon + between(0, 8)
        colour = jittered((35, 95, 50), land.draws, 18)
        land.draw.rectangle([x - 2, y - 6, x + 2, y + 4], fill=(90, 60, 35))
        land.draw.polygon([(x - width / 2, y - 4), (x, y - height), (x + width / 2, y - 4)], fill=colour)


def desert(land: Land) -> None:
    between, horizon = land.draws.between, land.horizon
    for _ in range(3):
        x, width, height = between(0, R), between(50, 110), between(10, 26)
        dune = [x - width / 2, horizon - height / 2, x + width / 2, horizon + height]
        land.draw.ellipse(dune, fill=jittered((222, 168, 95), land.draws, 10))
    x = between(15, R - 15)
    land.draw.ellipse([x - 9, 8, x + 9, 26], fill=(255, 240, 170))


def city(land: Land) -> None:
    between, horizon = land.draws.between, land.horizon
    x: float = -4
    while x < R:
        width, height = between(12, 24), between(25, 62)
        land.draw.rectangle([x, horizon - height, x + width, horizon], fill=jittered((95, 100, 120), land.draws, 25))
        for v in range(int(horizon - height) + 4, horizon - 4, 7):
            for u in range(int(x) + 3, int(x + width) - 3, 6):
                if land.draws.chance(0.6):
                    land.draw.rectangle([u, v, u + 2, v + 3], fill=(250, 235, 160))
        x += width + between(0, 4)


def night(land: Land) -> None:
    for _ in range(28):
        x, y = land.anywhere(0, land.horizon)
        star = land.draws.between(0.3, 1.1)
        land.disc(x, y, star, star, (255, 255, 220))
    x, y = land.draws.between(20, R - 20), land.draws.between(14, 30)
    land.disc(x, y, 9, 9, (250, 245, 205))


def mountains(land: Land) -> None:
    """Four peaks, snow on the upper 30 % of each."""
    between, horizon, cap = land.draws.between, land.horizon, 0.3
    for _ in range(4):
        x, width, height = between(0, R), between(55, 95), between(35, 58)
        rock = jittered((115, 120, 140), land.draws, 14)
        land.draw.polygon([(x - width / 2, horizon), (x, horizon - height), (x + width / 2, horizon)], fill=rock)
        edge = horizon - height * (1 - cap)
        top = [(x - width / 2 * cap, edge), (x, horizon - height), (x + width / 2 * cap, edge)]
        land.draw.polygon(top, fill=(245, 248, 252))


def meadow(land: Land) -> None:
    flowers: tuple[RGB, RGB, RGB] = ((250, 240, 120), (250, 250, 250), (240, 130, 160))
    between = land.draws.between
    for _ in range(16):
        x, y = land.anywhere(land.horizon + 4)
        size = between(1, 2)
        land.disc(x, y, size, size, land.draws.one_of_three(flowers))
    for _ in range(2):
        x, y = between(10, R - 10), between(10, 26)
        for k in range(3):
            puff = [x + k * 8 - 8, y - 5 + between(-2, 2), x + k * 8 + 6, y + 6]
            land.draw.ellipse(puff, fill=(250, 252, 255))


def sea(land: Land) -> None:
    between = land.draws.between
    for _ in range(14):
        x, y = land.anywhere()
        s = between(1, 3.5)
        land.draw.ellipse([x - s, y - s, x + s, y + s], outline=(190, 230, 245))
    land.draw.rectangle([0, R - 14, R, R], fill=jittered((190, 170, 120), land.draws, 8))
    for _ in range(5):
        x = between(0, R)
        weed = [(x, R - 12), (x + between(-6, 6), R - 12 - between(10, 30))]
        land.draw.line(weed, fill=(40, 130, 80), width=3)


def room(land: Land) -> None:
    x = land.draws.between(10, 70)
    land.draw.rectangle([x, 14, x + 32, 44], fill=(170, 215, 240), outline=(250, 250, 245), width=3)
    land.draw.rectangle([0, land.horizon - 3, R, land.horizon], fill=(250, 240, 225))


def road(land: Land) -> None:
    horizon = land.horizon
    land.draw.polygon([(R * 0.42, horizon), (R * 0.58, horizon), (R * 1.05, R), (-R * 0.05, R)], fill=(85, 87, 92))
    for k in range(4):
        y, h = horizon + (R - horizon) * (k / 4) ** 1.2 + 3, 3 + 3 * k
        land.draw.rectangle([R / 2 - 1 - k * 0.6, y, R / 2 + 1 + k * 0.6, y + h], fill=(250, 240, 180))


def moon(land: Land) -> None:
    for _ in range(30):
        x, y = land.anywhere(0, land.horizon)
        star = land.draws.between(0.3, 0.9)
        land.disc(x, y, star, star, (255, 255, 255))
    for _ in range(6):
        x, y = land.anywhere(land.horizon + 4)
        crater = land.draws.between(3, 9)
        land.disc(x, y, crater, crater * 0.45, jittered((140, 140, 146), land.draws, 8))


def sunset(land: Land) -> None:
    """The lower half of the sun lies behind the ground."""
    horizon = land.horizon
    x = land.draws.between(25, R - 25)
    land.draw.ellipse([x - 14, horizon - 20, x + 14, horizon + 8], fill=(255, 215, 120))
    land.draw.rectangle([0, horizon, R, horizon + 2], fill=jittered((110, 60, 70), land.draws, 8))
    land.draw.rectangle([x - 14, horizon, x + 14, horizon + 9], fill=jittered((110, 60, 70), land.draws, 8))


SCENERY: dict[str, Callable[[Land], None]] = {
    scenery.__name__: scenery
    for scenery in (beach, snow, forest, desert, city, night, mountains, meadow, sea, room, road, moon, sunset)
}
