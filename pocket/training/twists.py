"""Captions that are almost right: one thing, colour, pattern, place or relation exchanged for another.

Owns how a caption is twisted; must not know models. What contrastive training lacks in a batch of chance captions
are the near misses: two captions of one batch rarely differ in one word alone, and that is all a judge asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pocket.judge.prompts import captions_held_out
from pocket.world.captions import Relation
from pocket.world.colours import NAMES, held_out
from pocket.world.looks import ACCESSORIES, PATTERNS
from pocket.world.places import EVERYWHERE
from pocket.world.things import HATS, WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pocket.world.draws import Draws

Twist = Callable[[str, str, "Draws"], str]
"""Of head and place of a caption and chance: another caption."""


def near_miss(text: str, draws: Draws) -> str:
    """A `twisted` caption that may be shown: none that the judge asks for, none with a pair of colours held out.

    Shown as wrong answers alone, they would be wrong for ever.
    """
    while True:
        miss = twisted(text, draws)
        if miss not in captions_held_out() and not _says_held_out(miss):
            return miss


def _says_held_out(text: str) -> bool:
    return any(held_out(*pair.groups()) for pair in _COLOURS.finditer(text))


def twisted(text: str, draws: Draws) -> str:
    """A caption that differs from this one in one slot, each slot that it has being equally likely.

    A caption that says nothing that could be exchanged (`a sunset`) comes back as it is. What is worn stays a hat.
    """
    found = _PLACE.search(text)
    head, place = (text[: found.start()], found.group()) if found else (text, "")
    possible = [twist for applies, twist in _TWISTS if applies(head)]
    if place:
        possible.append(_other_place)
    return draws.one_of(possible)(head, place, draws) if possible else text


def _either(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


def _exchange(words: Sequence[str]) -> tuple[Callable[[str], bool], Twist]:
    """Another word of the same kind, one that the caption does not have yet."""
    pattern = re.compile(rf"\b({_either(words)})\b")

    def twist(head: str, place: str, draws: Draws) -> str:
        places = list(pattern.finditer(head))
        present = {found.group() for found in places}
        gone = draws.one_of(places)
        kind = HATS if gone.group() in HATS and _WEARING.search(head[: gone.start()]) else words
        other = draws.one_of([word for word in kind if word not in present])
        return _articles(head[: gone.start()] + other + head[gone.end() :]) + place

    return lambda head: pattern.search(head) is not None, twist


def _other_place(head: str, place: str, draws: Draws) -> str:
    return f"{head} {draws.one_of([other for other in EVERYWHERE if other != place.strip()])}"


def _other_sides(head: str, place: str, draws: Draws) -> str:  # noqa: ARG001 — nothing to choose
    found = _SIDES.fullmatch(head)
    assert found is not None
    opening, left, right = found.groups()
    return f"{opening}{right} on the left and {left} on the right{place}"


def _beside(head: str, place: str, draws: Draws) -> str:
    """Next to each other instead of worn."""
    relation = draws.one_of((Relation.AND, Relation.NEXT_TO))
    return head.replace(" wearing ", f" {relation} ", 1) + place


def _without_second(head: str, place: str, draws: Draws) -> str:  # noqa: ARG001 — nothing to choose
    return _SECOND.sub("", head) + place


def _articles(text: str) -> str:
    """Articles as the words after them want them."""
    text = _GLASSES.sub(r"with \1", _WORN.sub(r"with a \1", text))
    return _ARTICLE.sub(lambda found: "an " if found.group(1) in "aeiou" else "a ", text)


_PLACE = re.compile(f" ({_either(EVERYWHERE)})$")
_SIDES = re.compile(r"((?:a picture of )?)(an? .+) on the left and (an? .+) on the right")
_SECOND = re.compile(r"( on the left and an? .+| (?:wearing|and|next to) an? .+)$")
_GLASSES = re.compile(rf"with an? ((?:{_either(NAMES)}) glasses)")
_WORN = re.compile(rf"with ((?:{_either(NAMES)}) (?:scarf|bow tie))")
_WEARING = re.compile(r" wearing an? [a-z ]*$")
_COLOURS = re.compile(rf"\b({_either(NAMES)}) and ({_either(NAMES)})\b")
_ARTICLE = re.compile(r"\ban? (?=(\w))")

_TWISTS: tuple[tuple[Callable[[str], bool], Twist], ...] = (
    _exchange(WORDS),
    _exchange(WORDS),  # asked of every picture: twice as often
    _exchange(NAMES),
    _exchange(PATTERNS[1:]),
    _exchange(ACCESSORIES),
    (lambda head: _SIDES.fullmatch(head) is not None, _other_sides),
    (lambda head: " wearing " in head, _beside),
    (lambda head: _SECOND.search(head) is not None, _without_second),
)
