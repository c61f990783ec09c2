"""The prompts that a judge draws, and what is asked about each picture; no training scene has these captions.

Owns the list, built by rule from the world's tables; must not know models or pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from pocket.world.captions import OPENING, Layout, Relation, Said, Telling, caption
from pocket.world.colours import NAMES, PARTNER, held_out
from pocket.world.looks import ACCESSORIES, PATTERNS, USUAL
from pocket.world.places import EVERYWHERE, PLACES
from pocket.world.styles import STYLES
from pocket.world.things import DRESSED, HATS, WORDS

GROUPS = (
    "things",
    "places",
    "colours",
    "unseen colours",
    "patterns",
    "accessories",
    "pairs",
    "sides",
    "hats",
    "styles",
)

_PLACES = tuple(PLACES)
_EVERYWHERE = tuple(EVERYWHERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One caption to draw."""

    group: str
    """One of GROUPS."""
    telling: Telling

    @property
    def text(self) -> str:
        return caption(self.telling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which of these captions is nearest to the picture? The first one is right; they differ in one slot alone."""

    slot: str
    options: tuple[str, ...]


@cache
def prompts() -> tuple[Prompt, ...]:
    """All prompts, group by group, always in the same order."""
    return (
        *(_alone("things", Said(word=word), 3 + 7 * i) for i, word in enumerate(WORDS)),
        *(_alone("places", Said(word=WORDS[(3 * i + 1) % 22]), i) for i in range(len(_EVERYWHERE))),
        *_colours(),
        *_unseen_colours(),
        *_patterns(),
        *_accessories(),
        *_pairs("pairs"),
        *_pairs("sides"),
        *_hats(),
        *_styles(),
    )


@cache
def quick_prompts() -> tuple[Prompt, ...]:
    """A third of each group."""
    return tuple(p for group in GROUPS for p in [q for q in prompts() if q.group == group][::3])


@cache
def captions_held_out() -> frozenset[str]:
    """Captions that training leaves out: those of all prompts, with and without the opening words."""
    return frozenset(text for p in prompts() for text in (p.text, OPENING + p.text))


def questions(telling: Telling) -> tuple[Question, ...]:
    """Everything that a picture of this can be asked: thing, colours, place, count, sides, hat, ..."""
    asked = [_asked("place", telling, [replace(telling, place=place) for place in _EVERYWHERE])]
    asked += _about_subjects(telling)
    if telling.layout is Layout.ALONE:
        others = [Said(word=word) for word in WORDS if word != _first(telling).word]
        asked.append(_asked("count", telling, [replace(telling, layout=Layout.PAIR, second=o) for o in others]))
        styled = [replace(telling, style=style) for style in ("", *STYLES)]
        asked.append(_asked("style", telling, styled))
    elif telling.layout is Layout.PAIR:
        asked.append(_asked("count", telling, _single(telling)))
        if telling.relation is Relation.SIDES:
            swapped = replace(telling, subject=telling.second, second=telling.subject)
            asked.append(_asked("sides", telling, [swapped]))
    elif telling.layout is Layout.HAT:
        worn = [replace(telling, second=Said(word=hat)) for hat in HATS]
        asked.append(_asked("hat", telling, [*worn, replace(telling, layout=Layout.PAIR), *_single(telling)[:1]]))
    return tuple(asked)


def _about_subjects(telling: Telling) -> list[Question]:
    """Thing, main and second colour, pattern, accessory of the subject; of a pair's second one the thing alone."""
    first, second = _first(telling), telling.second
    taken = None if second is None else second.word
    words = [w for w in (DRESSED if telling.layout is Layout.HAT else WORDS) if w != taken]
    asked = [_of_subject("thing", telling, [replace(first, word=word) for word in words])]
    if first.main is not None:
        colours = [replace(first, main=c) for c in NAMES if c != first.second]
        asked.append(_of_subject("colour", telling, colours))
    if first.second is not None:
        colours = [replace(first, second=c) for c in NAMES if c != first.main]
        asked.append(_of_subject("second colour", telling, colours))
    if first.pattern != "plain":
        asked.append(_of_subject("pattern", telling, [replace(first, pattern=p) for p in PATTERNS]))
    if first.accessory is not None:
        accessories = [replace(first, accessory=a) for a in (None, *ACCESSORIES)]
        asked.append(_of_subject("accessory", telling, accessories))
    if telling.layout is Layout.PAIR and second is not None:
        others = [replace(telling, second=replace(second, word=w)) for w in WORDS if w != first.word]
        asked.append(_asked("second thing", telling, others))
    return asked


def _of_subject(slot: str, telling: Telling, options: list[Said]) -> Question:
    return _asked(slot, telling, [replace(telling, subject=said) for said in options])


def _asked(slot: str, right: Telling, options: list[Telling]) -> Question:
    """Put the right caption first, and every other one once."""
    return Question(slot=slot, options=tuple(dict.fromkeys([caption(right), *map(caption, options)])))


def _single(telling: Telling) -> list[Telling]:
    """The same scene with only one of the two."""
    alone = replace(telling, layout=Layout.ALONE, second=None, relation=Relation.AND)
    return [alone, replace(alone, subject=telling.second)]


def _first(telling: Telling) -> Said:
    assert telling.subject is not None
    return telling.subject


def _alone(group: str, said: Said, place: int, *, style: str = "") -> Prompt:
    where = _EVERYWHERE[place % len(_EVERYWHERE)]
    return Prompt(group=group, telling=Telling(layout=Layout.ALONE, place=where, subject=said, style=style))


def _colours() -> list[Prompt]:
    """Every colour twice, on things that it does not suit."""
    said = []
    for i, colour in enumerate((*NAMES, *NAMES)):
        unsuited = [word for word in WORDS if colour not in USUAL[word].split()]
        said.append(Said(word=unsuited[(5 * i + 1) % len(unsuited)], main=colour))
    return [_alone("colours", s, 11 + 4 * i) for i, s in enumerate(said)]


def _unseen_colours() -> list[Prompt]:
    """Every held-out pair of different colours, each on another thing."""
    pairs = [(a, b) for a in NAMES for b in NAMES if a != b and held_out(a, b)]
    said = [Said(word=WORDS[(7 * i + 1) % 22], main=a, second=b) for i, (a, b) in enumerate(pairs)]
    return [_alone("unseen colours", s, 2 + 6 * i) for i, s in enumerate(said)]


def _patterns() -> list[Prompt]:
    said = [
        Said(word=WORDS[(5 * i) % 22], main=NAMES[(5 * i) % 12], second=PARTNER[NAMES[(5 * i) % 12]], pattern=pattern)
        for i, pattern in enumerate(PATTERNS[1:] * 4)
    ]
    return [_alone("patterns", s, 9 + 5 * i) for i, s in enumerate(said)]


def _accessories() -> list[Prompt]:
    said = [
        Said(word=DRESSED[(3 * i + 1) % 11], accessory=accessory, accent=NAMES[(7 * i + 5) % 12])
        for i, accessory in enumerate(ACCESSORIES * 4)
    ]
    return [_alone("accessories", s, 5 + 8 * i) for i, s in enumerate(said)]


def _pairs(group: str) -> list[Prompt]:
    relation = Relation.SIDES if group == "sides" else Relation.AND
    step = 9 if relation is Relation.SIDES else 5
    return [
        Prompt(
            group=group,
            telling=Telling(
                layout=Layout.PAIR,
                place=_EVERYWHERE[(step * i + 1) % len(_EVERYWHERE)],
                subject=Said(word=WORDS[i]),
                second=Said(word=WORDS[(i + step) % 22]),
                relation=relation,
            ),
        )
        for i in range(16)
    ]


def _hats() -> list[Prompt]:
    """Every thing with a head under both hats."""
    return [
        Prompt(
            group="hats",
            telling=Telling(
                layout=Layout.HAT,
                place=_EVERYWHERE[(4 * i + 7) % len(_EVERYWHERE)],
                subject=Said(word=DRESSED[i % 11]),
                second=Said(word=HATS[i % 2]),
            ),
        )
        for i in range(22)
    ]


def _styles() -> list[Prompt]:
    return [
        _alone("styles", Said(word=WORDS[(7 * i + 3) % 22]), 7 * i, style=style)
        for i, style in enumerate(list(STYLES) * 4)
    ]
