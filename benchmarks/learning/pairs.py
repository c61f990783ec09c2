"""Two concepts in one scene: both named, either named, or described in words.

Owns the prompts of a pair; must not know the questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.learning.bench import Bench, Removed, Scene
from benchmarks.learning.images import PLACES
from benchmarks.learning.rows import IN_A_ROW, Row, Shown, Trained
from cnsctl.concept import Delta, Mode
from cnsctl.engine.overlay import EMPTY

NAMED = {"both": slice(0), "the first": slice(1), "the second": slice(1, 2)}
"""Of two concepts, those that a prompt names."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two concepts that scenes of one kind show."""

    kind: str
    concepts: tuple[str, ...]
    """In alphabetical order, whichever is on the left."""


def by_pair(scenes: Sequence[Scene]) -> dict[Pair, list[Scene]]:
    """Scenes by the concepts that they show."""
    found: dict[Pair, list[Scene]] = {}
    for scene in scenes:
        found.setdefault(Pair(scene.kind, tuple(sorted(scene.concepts))), []).append(scene)
    return found


def title(pair: Pair) -> str:
    return f"{pair.kind} {' '.join(pair.concepts)}"


def two_prompt_only(bench: Bench, shown: Mapping[Pair, list[Scene]], says: str) -> dict[str, Removed]:
    """By pair: error removed if the prompt describes both in words, or one."""
    return {title(pair): bench.prompt_only(found, named=pair.concepts[NAMED[says]]) for pair, found in shown.items()}


def two_named(
    bench: Bench, known: Mapping[str, Delta], mode: Mode, shown: Mapping[Pair, list[Scene]], says: str
) -> dict[str, Removed]:
    """By pair: error removed on its scenes if the prompt names both, or one and the other's class word."""
    return {
        title(pair): bench.removed(acting(known, mode, pair.concepts), mode, scenes, named=pair.concepts[NAMED[says]])
        for pair, scenes in shown.items()
    }


def two_shown(bench: Bench, known: Mapping[str, Delta], mode: Mode, pair: Pair, says: str) -> Shown:
    """A row of a sheet: the pair side by side in each place."""
    overlay = bench.overlay(acting(known, mode, pair.concepts), mode)
    return Shown(overlay=overlay, prompts=_side_by_side(bench, pair, says, {n: f"a <{n}>" for n in pair.concepts}))


def two_prompt_only_shown(bench: Bench, pair: Pair, says: str) -> Shown:
    """The same by the base model, with a prompt that describes both in words, or one."""
    return Shown(overlay=EMPTY, prompts=_side_by_side(bench, pair, says, bench.described))


def _side_by_side(bench: Bench, pair: Pair, says: str, words: Mapping[str, str]) -> tuple[str, ...]:
    named = pair.concepts[NAMED[says]] or pair.concepts
    who = [words[n] if n in named else bench.bare[n] for n in pair.concepts]
    return tuple(f"{who[0]} on the left and {who[1]} on the right {place}" for place in PLACES[:IN_A_ROW])


def acting(known: Mapping[str, Delta], mode: Mode, named: Sequence[str]) -> Trained:
    """In merged mode every concept acts; in the other modes those that a prompt names."""
    return [(n, delta) for n, delta in known.items() if mode is Mode.MERGED or n in named]


def pairs_that_hold(label: str, by_name: Mapping[str, Mapping[str, Removed]]) -> Row:
    """From the errors removed by pair, for each of `NAMED`."""
    both, *one = ([found.mean for found in each.values()] for each in by_name.values())
    better = np.max(one, axis=0)
    count = float(np.sum(np.array(both) > better))
    return Row(name=label, cells={"both": float(np.mean(both)), "one": float(better.mean()), "pairs": count})
