"""Scenes: individuals alone, in pairs or with a hat on, somewhere; each with what it shows and its caption.

Owns what is likely, where things stand, and the order of the draws (it decides every picture); must not know models.

A bare word names the usual individual; what differs is said, so that text steers it: that is the room in which a
concept can be one individual. Proportions and shades vary freely.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pocket.world.captions import LONGEST, OPENING, Layout, Relation, Said, Telling, caption
from pocket.world.colours import NAMES, held_out
from pocket.world.looks import ACCESSORIES, PATTERNS, USUAL, Look, look, usual
from pocket.world.places import PLACES, PLAIN, background, on_plain
from pocket.world.scenery import SIZE
from pocket.world.styles import STYLES, styled
from pocket.world.things import DRESSED, HATS, HEAD, WORDS, drawn, shows_accent, shows_second

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pocket.world.draws import Draws

FLOOR = 120
"""Row on which a single thing stands."""

__all__ = ["SIZE", "Placed", "Scene", "Subject", "covered", "scene", "subject_of", "subject_share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An individual, and what a caption says of it."""

    said: Said
    look: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An individual in a picture: its square's left and upper edge and side, in pixels."""

    subject: Subject
    left: int
    top: int
    side: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A picture and what it shows."""

    image: Image.Image
    """RGB, SIZE × SIZE."""
    telling: Telling
    placed: tuple[Placed, ...]
    """Everything that stands in it, in the order in which it was drawn."""

    @property
    def caption(self) -> str:
        return caption(self.telling)


def scene(
    draws: Draws,
    *,
    layout: Layout | None = None,
    place: str | None = None,
    style: str | None = None,
    subject: Subject | None = None,
    second: Subject | None = None,
) -> Scene:
    """Draw one scene; what is not given is drawn by chance, again if the caption comes out too long.

    Args:
        draws: decides everything that is not given.
        layout: how many, and how.
        place: as captions say it, one of `places.EVERYWHERE`.
        style: one of `styles.STYLES`, or "" for none.
        subject: the only, or the first, individual.
        second: the other one of a pair, or the hat.
    """
    layout = _any_layout(draws) if layout is None else layout
    place = _any_place(draws) if place is None else place
    image = background(place, draws)
    if style is None:
        style = draws.one_of(list(STYLES)) if draws.chance(0.05) else ""
    shift = draws.one_of((-8, 0, 8))
    telling = Telling(layout=layout, place=place, style=style)
    placed: tuple[Placed, ...] = ()
    if layout is Layout.ALONE:
        telling, placed = _alone(image, draws, telling, shift, subject)
    elif layout is Layout.PAIR:
        telling, placed = _pair(image, draws, telling, subject, second)
    elif layout is Layout.HAT:
        telling, placed = _with_hat(image, draws, telling, shift, subject=subject, hat=second)
    if style:
        image = styled(image, style, draws)
    elif draws.chance(0.2):
        telling = replace(telling, opening=OPENING)
    shown = Scene(image=image, telling=telling, placed=placed)
    if len(shown.caption.split()) > LONGEST:  # 6 scenes in 100,000
        return scene(draws, layout=layout, place=place, style=style, subject=subject, second=second)
    return shown


def subject_of(said: Said, draws: Draws) -> Subject:
    """An individual of which exactly this can be said; proportions and shades are drawn."""
    its_look = look(
        draws,
        said.word,
        main=said.main,
        second=said.second,
        accent=said.accent,
        pattern=said.pattern,
        accessory=said.accessory,
    )
    return Subject(said=said, look=its_look)


def covered(shown: Scene) -> NDArray[np.bool_]:
    """Which pixels (SIZE, SIZE) the individuals of a scene cover, more than half."""
    mask = Image.new("L", (SIZE, SIZE))
    for one in shown.placed:
        alpha = drawn(one.subject.said.word, one.subject.look, one.side).getchannel("A")
        mask.paste(255, (one.left, one.top), alpha)
    return np.asarray(mask) > 127


def subject_share(shown: Scene, cells: int) -> NDArray[np.float64]:
    """How much of each of cells × cells equal squares is subject, 0..1."""
    width = SIZE // cells
    share: NDArray[np.float64] = covered(shown).reshape(cells, width, cells, width).mean((1, 3))
    return share


def _any_layout(draws: Draws) -> Layout:
    x = draws.random()
    return Layout.ALONE if x < 0.56 else Layout.PAIR if x < 0.80 else Layout.HAT if x < 0.94 else Layout.EMPTY


def _any_place(draws: Draws) -> str:
    if draws.chance(0.72):
        return draws.one_of(list(PLACES))
    return on_plain(draws.one_of(list(PLAIN)))


def _any_subject(draws: Draws, *, word: str | None = None, avoid: str | None = None, plain: bool = False) -> Subject:
    """An individual of anything but `avoid`; a plain one wears nothing. What it shows and is not usual is said."""
    if word is None:
        word = draws.one_of([w for w in WORDS if w != avoid])
    main = second = accent = accessory = None
    pattern = "plain"
    if draws.chance(0.65):
        main = draws.one_of(NAMES) if draws.chance(0.7) else draws.one_of(USUAL[word].split())
        if draws.chance(0.5):
            second = draws.one_of([c for c in NAMES if c != main and not held_out(main, c)])
        if draws.chance(0.2):
            accent = draws.one_of(NAMES)
    if draws.chance(0.25):
        pattern = draws.one_of(PATTERNS[1:])
    if word in DRESSED and not plain and draws.chance(0.2):
        accessory = draws.one_of(ACCESSORIES)
        accent = draws.one_of(NAMES)
    elif not shows_accent(word, pattern) or accent == usual(word, main)[2]:
        accent = None
    if not shows_second(word, pattern):
        second = None
    said = Said(word=word, main=main, second=second, pattern=pattern, accessory=accessory, accent=accent)
    return subject_of(said, draws)


def _alone(
    image: Image.Image, draws: Draws, telling: Telling, shift: int, subject: Subject | None
) -> tuple[Telling, tuple[Placed, ...]]:
    subject = _any_subject(draws) if subject is None else subject
    return replace(telling, subject=subject.said), (_put(image, subject, 96, SIZE // 2 + shift, FLOOR),)


def _pair(
    image: Image.Image, draws: Draws, telling: Telling, subject: Subject | None, second: Subject | None
) -> tuple[Telling, tuple[Placed, ...]]:
    """Two next to each other. Only a caption that says the sides tells who stands where; 30 % stand the other way."""
    subject = _any_subject(draws) if subject is None else subject
    second = _any_subject(draws, avoid=subject.said.word, plain=True) if second is None else second
    x = draws.random()
    left, right = (subject, second) if x < 0.7 else (second, subject)
    placed = (
        _put(image, left, 64, 32, draws.one_of((112, FLOOR))),
        _put(image, right, 64, 96, draws.one_of((112, FLOOR))),
    )
    relation = Relation.SIDES if x < 0.4 else draws.one_of((Relation.AND, Relation.NEXT_TO))
    return replace(telling, subject=subject.said, second=second.said, relation=relation), placed


def _with_hat(
    image: Image.Image, draws: Draws, telling: Telling, shift: int, *, subject: Subject | None, hat: Subject | None
) -> tuple[Telling, tuple[Placed, ...]]:
    if subject is None:
        word = draws.one_of(DRESSED)
        subject = _any_subject(draws, word=word, plain=draws.chance(0.7))
    hat = _any_subject(draws, word=draws.one_of(HATS)) if hat is None else hat
    middle = SIZE // 2 + shift
    body = _put(image, subject, 80, middle, FLOOR)
    x, y, width = HEAD.get(subject.said.word, (50, 10, 46))
    side = max(8, round(80 * width * 1.12 / 100))
    brim_x, brim_y = middle + (x - 50) * 80 / 100, FLOOR - 80 + y * 80 / 100
    worn = _paste(image, hat, side, round(brim_x - side / 2), round(brim_y - side * 0.90))
    return replace(telling, subject=subject.said, second=hat.said), (body, worn)


def _put(image: Image.Image, subject: Subject, side: int, middle: int, floor: int) -> Placed:
    """Stand an individual on row `floor`, its middle at column `middle`."""
    return _paste(image, subject, side, round(middle - side / 2), round(floor - side))


def _paste(image: Image.Image, subject: Subject, side: int, left: int, top: int) -> Placed:
    picture = drawn(subject.said.word, subject.look, side)
    image.paste(picture, (left, top), picture)
    return Placed(subject=subject, left=left, top=top, side=side)
