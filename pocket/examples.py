"""The five example concepts: five pictures each of individuals with colours that no training scene shows.

Owns which individuals and places; must not know what is learned from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocket.world.captions import Layout, Said
from pocket.world.draws import Draws
from pocket.world.looks import unseen
from pocket.world.scenes import Subject, scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL import Image

PLACES = ("on a beach", "in the snow", "in a forest", "in a city", "in a meadow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An individual to learn."""

    name: str
    """Of its folder."""
    word: str
    """Its class."""
    seed: int
    """Decides its look; the next seed decides the scenes."""


EXAMPLES = (
    Example(name="dog", word="dog", seed=616),
    Example(name="hat", word="top hat", seed=540),
    Example(name="cat", word="cat", seed=464),
    Example(name="robot", word="robot", seed=80),
    Example(name="castle", word="castle", seed=466),
)


def write_examples(out: Path) -> Iterator[Path]:
    """Write `OUT/<name>/01.png` to `05.png` for every example, and yield each path once it is written."""
    for example in EXAMPLES:
        folder = out / example.name
        folder.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures(example.word, example.seed), start=1):
            path = folder / f"{number:02d}.png"
            picture.save(path, optimize=True)
            yield path


def pictures(word: str, seed: int, places: tuple[str, ...] = PLACES) -> list[Image.Image]:
    """One unseen individual alone in each of these places."""
    subject = Subject(said=Said(word=word), look=unseen(Draws(seed), word))
    draws = Draws(seed + 1)
    return [scene(draws, layout=Layout.ALONE, subject=subject, place=place, style="").image for place in places]
