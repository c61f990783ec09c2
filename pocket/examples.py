"""The example concepts, and the harder dog and hat of the benchmarks: five images of each individual.

Owns which individuals and places; must not know what is trained on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocket.world.captions import Layout, Said
from pocket.world.draws import Draws
from pocket.world.looks import Look, unseen
from pocket.world.scenes import Subject, scene

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from PIL import Image

PLACES = ("on a beach", "in the snow", "in a forest", "in a city", "in a meadow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An individual to train on."""

    name: str
    """Of its folder."""
    word: str
    """Its class word."""
    seed: int
    """The next seed decides the scenes."""
    chosen: Look | None = None
    """Its look; None: the seed decides."""

    @property
    def subject(self) -> Subject:
        """The individual, with its class word as the only thing that is said of it."""
        look = unseen(Draws(self.seed), self.word) if self.chosen is None else self.chosen
        return Subject(said=Said(word=self.word), look=look)


HARDER = (
    Example(name="dog", word="dog", seed=616),
    Example(name="hat", word="top hat", seed=540),
)
"""Yellow with purple ears, and purple with spots: pocket blurs them, so the benchmarks keep them."""

_REST = (
    Example(name="cat", word="cat", seed=464),
    Example(name="robot", word="robot", seed=80),
    Example(name="castle", word="castle", seed=466),
)

_SHADE = (0.0, 0.0, 0.0)
_DOG = Look(
    main="red", second="pink", accent="yellow", pattern="plain", accessory=None, p=(0.5, 0.5, 0.5, 0.5), shade=_SHADE
)
_HAT = Look(
    main="blue", second="orange", accent="orange", pattern="plain", accessory=None, p=(0.3, 0.5, 0.5, 0.5), shade=_SHADE
)

EXAMPLES = (
    Example(name="dog", word="dog", seed=999, chosen=_DOG),
    Example(name="hat", word="top hat", seed=999, chosen=_HAT),
    *_REST,
)
"""What the package contains."""

FIVE = (*HARDER, *_REST)
"""What the benchmarks measure."""


def write_examples(out: Path, examples: Sequence[Example] = EXAMPLES) -> Iterator[Path]:
    """Write `OUT/<name>/01.png` to `05.png` for every example, and yield each path once it is written."""
    for example in examples:
        folder = out / example.name
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images(example), start=1):
            path = folder / f"{number:02d}.png"
            image.save(path, optimize=True)
            yield path


def images(example: Example) -> list[Image.Image]:
    """The individual alone in each of PLACES."""
    draws = Draws(example.seed + 1)
    return [scene(draws, layout=Layout.ALONE, subject=example.subject, place=place, style="").image for place in PLACES]
