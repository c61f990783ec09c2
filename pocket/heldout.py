"""Held-out scenes: the benchmarks' five concepts, and those of the sweeps, where no training image shows them.

Owns which scenes and their captions; must not know what is measured on them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING

from pocket.concepts import DRAWN, places_of
from pocket.examples import FIVE
from pocket.world.captions import Layout, Relation, Said, phrase
from pocket.world.draws import Draws
from pocket.world.looks import PATTERNS
from pocket.world.places import PLACES as EVERY_PLACE
from pocket.world.scenes import Subject, scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pocket.world.scenes import Scene

SWEEP = ("blue-fox", "orange-owl", "red-car", "cyan-mushroom")
"""Of the held-out concepts: defaults are tuned on these, so that nothing is tuned on what is reported."""

PLACES = ("in a desert", "at night", "in the mountains", "under the sea", "in a room", "on a road")
"""Where no training image of the five is; the sweep's stand in six places that theirs do not show."""

WEARERS = ("dog", "cat", "robot")
"""Those of the five that have a head; the hat is the harder `hat`."""

COLOURS = 128
"""Of a picture's palette."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """One scene, as `scenes.json` lists it."""

    file: str
    caption: str
    """With a placeholder for each concept: `a <dog> wearing a <hat> on a road`."""
    concepts: dict[str, str]
    """Class word by concept, in the caption's order."""
    described: dict[str, str]
    """By concept: its colours and pattern as a caption names them, without the accent: `a yellow and purple dog`."""
    kind: str
    """`alone`, `pair`, `hat`, `sweep` or `sweep-pair`."""


def write_held_out(out: Path) -> Iterator[Path]:
    """Write the pictures and yield each path; `OUT/scenes.json` comes last."""
    out.mkdir(parents=True, exist_ok=True)
    listed = []
    for i, (told, shown) in enumerate(_scenes()):
        one = replace(told, file=f"{told.kind}-{i:03d}.png")
        shown.image.quantize(COLOURS).save(out / one.file, optimize=True)
        listed.append(asdict(one))
        yield out / one.file
    path = out / "scenes.json"
    path.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    yield path


def individuals() -> dict[str, Subject]:
    """The five by name, as their training images show them."""
    return {example.name: example.subject for example in FIVE}


def _scenes() -> Iterator[tuple[HeldOut, Scene]]:
    who = individuals()
    for name, subject in who.items():
        for place in PLACES:
            yield _told("alone", f"a <{name}> {place}", {name: subject}), _drawn(Layout.ALONE, place, subject)
    for number, (left, right) in enumerate(permutations(who, 2)):
        place = PLACES[number % len(PLACES)]
        yield _side_by_side("pair", left, right, who, place)
    for name in WEARERS:
        for place in PLACES[::2]:
            worn = {name: who[name], "hat": who["hat"]}
            yield _told("hat", f"a <{name}> wearing a <hat> {place}", worn), _drawn(Layout.HAT, place, *worn.values())
    others = {c.name: Subject(said=Said(word=c.word), look=look) for c, look in DRAWN if c.name in SWEEP}
    elsewhere = {
        c.name: [place for place in EVERY_PLACE if place not in places_of(number)]
        for number, (c, _) in enumerate(DRAWN)
        if c.name in SWEEP
    }
    for name, subject in others.items():
        for place in elsewhere[name][: len(PLACES)]:
            yield _told("sweep", f"a <{name}> {place}", {name: subject}), _drawn(Layout.ALONE, place, subject)
    for number, (left, right) in enumerate(permutations(others, 2)):
        shared = [place for place in elsewhere[left] if place in elsewhere[right]]
        yield _side_by_side("sweep-pair", left, right, others, shared[number % len(shared)])


def _side_by_side(kind: str, left: str, right: str, who: dict[str, Subject], place: str) -> tuple[HeldOut, Scene]:
    pair = {left: who[left], right: who[right]}
    text = f"a <{left}> on the left and a <{right}> on the right {place}"
    return _told(kind, text, pair), _drawn(Layout.PAIR, place, *pair.values())


def _told(kind: str, caption: str, who: dict[str, Subject]) -> HeldOut:
    return HeldOut(
        file="",
        caption=caption,
        concepts={name: subject.said.word for name, subject in who.items()},
        described={name: _described(subject) for name, subject in who.items()},
        kind=kind,
    )


def _described(subject: Subject) -> str:
    look = subject.look
    pattern = look.pattern if look.pattern in PATTERNS else "plain"
    return phrase(replace(subject.said, main=look.main, second=look.second, pattern=pattern))


def _drawn(layout: Layout, place: str, subject: Subject, second: Subject | None = None) -> Scene:
    """A scene of this, always the same one; of a pair, the first whose caption says the sides."""
    seed = 9_000_000 + 1000 * sum(map(ord, place + subject.said.word))
    while True:
        shown = scene(Draws(seed), layout=layout, place=place, style="", subject=subject, second=second)
        if layout is not Layout.PAIR or shown.telling.relation is Relation.SIDES:
            return shown
        seed += 1
