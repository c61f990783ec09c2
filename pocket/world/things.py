"""The 24 things by name, and what a scene must know of them: who wears what, where a hat sits.

Owns the list and its order (captions are drawn by index); must not know how anything is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pocket.world import animals, creatures, objects, plants
from pocket.world.looks import Look
from pocket.world.pen import Pen

if TYPE_CHECKING:
    from PIL import Image

Drawing = Callable[[Pen, Look], None]

THINGS: dict[str, Drawing] = {
    "dog": animals.dog,
    "cat": animals.cat,
    "rabbit": animals.rabbit,
    "fox": animals.fox,
    "lion": animals.lion,
    "elephant": animals.elephant,
    "horse": animals.horse,
    "frog": creatures.frog,
    "owl": creatures.owl,
    "penguin": creatures.penguin,
    "fish": creatures.fish,
    "car": objects.car,
    "rocket": objects.rocket,
    "house": objects.house,
    "castle": objects.castle,
    "tree": plants.tree,
    "cactus": plants.cactus,
    "mushroom": plants.mushroom,
    "apple": plants.apple,
    "boot": objects.boot,
    "balloon": objects.balloon,
    "robot": creatures.robot,
    "top hat": objects.top_hat,
    "crown": objects.crown,
}
WORDS = tuple(THINGS)
HATS = ("top hat", "crown")
DRESSED = ("dog", "cat", "rabbit", "fox", "lion", "elephant", "horse", "frog", "owl", "penguin", "robot")
"""Things with a face: they may wear an accessory, and a hat."""

NO_ACCENT = ("dog", "fox", "lion", "elephant", "horse", "frog", "owl", "penguin", "mushroom", "balloon")
"""Things without parts in the accent colour: only an accessory shows it."""

ONLY_IN_PATTERN = ("apple", "top hat")
"""Things that show their second colour in a pattern alone."""

HEAD: dict[str, tuple[int, int, int]] = {
    "dog": (50, 15, 40),
    "cat": (50, 16, 40),
    "rabbit": (50, 34, 30),
    "fox": (48, 19, 38),
    "lion": (50, 14, 42),
    "elephant": (48, 16, 38),
    "horse": (48, 13, 32),
    "frog": (50, 26, 44),
    "owl": (50, 21, 44),
    "penguin": (50, 14, 36),
    "robot": (50, 16, 46),
}
"""Where a hat sits on each of DRESSED: x and y of its brim, and the head's width there."""


def shows_accent(word: str, pattern: str) -> bool:
    """Whether an individual that wears nothing has parts in its accent colour; on a tree these are spots and patches."""
    return pattern in ("spotted", "patched") if word == "tree" else word not in NO_ACCENT


def shows_second(word: str, pattern: str) -> bool:
    """Whether an individual has parts in its second colour."""
    return pattern != "plain" or word not in ONLY_IN_PATTERN


def drawn(word: str, look: Look, size: int) -> Image.Image:
    """One individual on a transparent square of size × size pixels."""
    pen = Pen(size)
    THINGS[word](pen, look)
    return pen.picture()
