"""Held-out concepts: individuals that no training has seen, five pictures each, from easy to hard.

Owns which they are and where they stand; must not know what is learned from them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from pocket.world.draws import Draws
from pocket.world.looks import Look
from pocket.world.places import PLACES, background
from pocket.world.scenes import FLOOR
from pocket.world.strangers import STRANGERS, stranger
from pocket.world.things import drawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ANOTHER_HAND = Path(__file__).with_name("another_hand")
"""Drawings by others, with their licence."""

SIDE = 96
"""Of an individual's square, in pixels."""

COUNT = 5
"""Pictures of each."""

LEVELS = ("colours", "attributes", "things", "hand")
"""What is new: a pair of colours; a pattern, accessory or proportion; the thing itself; everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """An individual to learn."""

    name: str
    """Of its folder."""
    level: str
    """One of LEVELS."""
    word: str
    """Its class. Up to `attributes` the base draws that; later it has at most met the word."""
    new: str
    """What no training scene shows, in a few words."""


def _individual(
    level: str,
    name: str,
    word: str,
    colours: str,
    *,
    pattern: str = "plain",
    accessory: str | None = None,
    p: tuple[float, float, float, float] = (0.5, 0.5, 0.5, 0.5),
    new: str = "",
) -> tuple[Concept, Look]:
    """A concept and its look: main, second and accent colour in one string; what is new is the pattern or accessory."""
    main, second, accent = colours.split()
    look = Look(
        main=main, second=second, accent=accent, pattern=pattern, accessory=accessory, p=p, shade=(0.0, 0.0, 0.0)
    )
    return Concept(name=name, level=level, word=word, new=new or accessory or pattern), look


def _colours(name: str, word: str, colours: str, p: float = 0.5) -> tuple[Concept, Look]:
    new = " and ".join(colours.split()[:2])
    return _individual("colours", name, word, colours, p=(p, p, 1 - p, p), new=new)


def _thing(word: str, colours: str, *, pattern: str = "plain") -> tuple[Concept, Look]:
    return _individual("things", word, word, colours, pattern=pattern, new="the thing")


DRAWN: tuple[tuple[Concept, Look], ...] = (
    _colours("green-dog", "dog", "green white red"),
    _colours("blue-fox", "fox", "blue orange yellow", 0.2),
    _colours("orange-owl", "owl", "orange green purple", 0.8),
    _colours("red-car", "car", "red pink black"),
    _colours("purple-boot", "boot", "purple cyan orange", 0.9),
    _colours("yellow-house", "house", "yellow purple green", 0.3),
    _colours("cyan-mushroom", "mushroom", "cyan blue white", 0.6),
    _colours("white-crown", "crown", "white purple red", 0.4),
    _individual("attributes", "checked-cat", "cat", "cyan black red", pattern="checked"),
    _individual("attributes", "starred-frog", "frog", "blue yellow red", pattern="starred"),
    _individual("attributes", "ringed-elephant", "elephant", "pink purple yellow", pattern="ringed"),
    _individual("attributes", "halved-rabbit", "rabbit", "white red blue", pattern="halved"),
    _individual("attributes", "flower-penguin", "penguin", "purple white pink", accessory="flower"),
    _individual("attributes", "pirate-lion", "lion", "orange brown black", accessory="eye patch"),
    _individual("attributes", "medal-horse", "horse", "gray white red", accessory="medal"),
    _individual("attributes", "moustache-robot", "robot", "cyan gray black", accessory="moustache"),
    _individual("attributes", "tall-cactus", "cactus", "green yellow pink", p=(1.8, 1.8, 1.8, 1.8), new="proportions"),
    _individual("attributes", "wide-dog", "dog", "brown white green", p=(2.6, 2.8, -1.2, -1.0), new="proportions"),
    _thing("snowman", "white red orange"),
    _thing("teapot", "blue white yellow", pattern="spotted"),
    _thing("ghost", "white pink purple"),
    _thing("umbrella", "red yellow brown", pattern="striped"),
    _thing("sailboat", "brown white red"),
    _thing("duck", "yellow white orange"),
    _thing("sunflower", "yellow brown green"),
    _thing("lamp", "purple yellow brown"),
)
"""Whom the world's own pen draws."""

PASTED: tuple[Concept, ...] = tuple(
    Concept(name=f"noto-{word}", level="hand", word=word, new="the hand that drew it")
    for word in ("dog", "cat", "robot", "owl", "castle", "rocket", "teapot", "dinosaur")
)
"""Whom others drew: Noto Emoji, Apache 2.0, see `another_hand/NOTICE`."""


def concepts() -> tuple[Concept, ...]:
    """All of them, from easy to hard."""
    return (*(concept for concept, _ in DRAWN), *PASTED)


def write_concepts(out: Path) -> Iterator[Path]:
    """Write `OUT/<name>/01.png` to `05.png` for every concept and yield each path; `OUT/concepts.json` comes last.

    Pictures have at most 128 colours, so that all of them stay small.
    """
    for number, (concept, look) in enumerate(DRAWN):
        draw = stranger if concept.word in STRANGERS else drawn
        yield from _write(out / concept.name, number, lambda c=concept, k=look, d=draw: d(c.word, k, SIDE))  # type: ignore[misc]
    for number, concept in enumerate(PASTED, start=len(DRAWN)):
        yield from _write(out / concept.name, number, lambda c=concept: _pasted(c.word))  # type: ignore[misc]
    path = out / "concepts.json"
    path.write_text(json.dumps([asdict(concept) for concept in concepts()], indent=1) + "\n", encoding="utf-8")
    yield path


def places_of(number: int) -> list[str]:
    """Where the concept of this number stands, as captions say it: five places, another choice for each."""
    return [list(PLACES)[(5 * number + 3 * i) % len(PLACES)] for i in range(COUNT)]


def _write(folder: Path, number: int, subject: Callable[[], Image.Image]) -> Iterator[Path]:
    """One individual in five places, which its number decides together with all that a place leaves open."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = Draws(7_000_000 + number)
    for i, place in enumerate(places_of(number)):
        image = background(place, draws)
        picture = subject()
        left = (image.width - SIDE) // 2 + draws.one_of((-8, 0, 8))
        image.paste(picture, (left, FLOOR - SIDE), picture)
        path = folder / f"{i + 1:02d}.png"
        image.quantize(128).save(path, optimize=True)
        yield path


def _pasted(word: str) -> Image.Image:
    return Image.open(ANOTHER_HAND / f"{word}.png").convert("RGBA")
