"""What a caption says, as a value, and the sentence for it.

Owns the grammar of the world; must not know pixels or chance.

    [STYLE of] a [COLOUR [and COLOUR]] [spotted|striped|patched] THING
        [with a COLOUR scarf | with a COLOUR bow tie | with COLOUR glasses | with a little COLOUR]
        [wearing a ... HAT | and a ... THING | next to a ... THING | on the left and a ... THING on the right] PLACE
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Layout(StrEnum):
    """How many stand in a scene, and how."""

    ALONE = "alone"
    PAIR = "pair"
    HAT = "hat"
    EMPTY = "empty"


class Relation(StrEnum):
    """How a pair is said; only SIDES says who stands where."""

    AND = "and"
    NEXT_TO = "next to"
    SIDES = "sides"


OPENING = "a picture of "
"""A fifth of the captions without a style begin with it."""

LONGEST = 30
"""Words in a caption: each is one token, and the start and end tokens take two of the 32 positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a caption says of one individual: what it leaves out is usual."""

    word: str
    main: str | None = None
    second: str | None = None
    pattern: str = "plain"
    accessory: str | None = None
    accent: str | None = None
    """The accessory's colour; without an accessory, the colour of small parts: a rocket's nose, a robot's hands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What a whole caption says."""

    layout: Layout
    place: str
    subject: Said | None = None
    second: Said | None = None
    """The other one of a pair, or the hat."""
    relation: Relation = Relation.AND
    style: str = ""
    opening: str = ""


def caption(telling: Telling) -> str:
    """The sentence: `a blue spotted dog wearing a top hat on a beach`."""
    text = {
        Layout.ALONE: _alone,
        Layout.PAIR: _pair,
        Layout.HAT: _hat,
        Layout.EMPTY: _empty,
    }[telling.layout](telling)
    return f"{telling.style} {text}" if telling.style else telling.opening + text


def phrase(said: Said) -> str:
    """One individual with its article: `a blue and yellow striped dog with a red scarf`."""
    colours = [] if said.main is None else [said.main] if said.second is None else [said.main, "and", said.second]
    pattern = [] if said.pattern == "plain" else [said.pattern]
    text = with_article(" ".join([*colours, *pattern, said.word]))
    if said.accent is None:
        return text
    if said.accessory is None:
        return f"{text} with a little {said.accent}"
    if said.accessory == "glasses":
        return f"{text} with {said.accent} glasses"
    return f"{text} with {with_article(str(said.accent))} {said.accessory}"


def with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _alone(telling: Telling) -> str:
    return f"{_subject(telling)} {telling.place}"


def _pair(telling: Telling) -> str:
    first, second = _subject(telling), _second(telling)
    if telling.relation is Relation.SIDES:
        return f"{first} on the left and {second} on the right {telling.place}"
    return f"{first} {telling.relation} {second} {telling.place}"


def _hat(telling: Telling) -> str:
    return f"{_subject(telling)} wearing {_second(telling)} {telling.place}"


def _empty(telling: Telling) -> str:
    special = {"at night": "a night sky", "at sunset": "a sunset"}
    return special.get(telling.place) or telling.place.split(" ", 1)[1]


def _subject(telling: Telling) -> str:
    assert telling.subject is not None
    return phrase(telling.subject)


def _second(telling: Telling) -> str:
    assert telling.second is not None
    return phrase(telling.second)
