"""What pictures show of a concept: likeness, obedience to the text, and whose pictures they resemble most.

Owns which prompts and seeds are drawn; must not know questions or tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.learning.bench import Bench, training_pixels
from cnsctl.bases.clip import towers
from cnsctl.data.prompts import parse
from cnsctl.engine.generate import Request, draw
from cnsctl.engine.overlay import EMPTY, Overlay
from cnsctl.metrics.similarity import clip_i, row_cosines
from cnsctl.specs import Delta, Mode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Features = NDArray[np.float32]

PLACES = (
    "on a beach",
    "in the snow",
    "in a forest",
    "in a desert",
    "in the mountains",
    "under the sea",
    "in a room",
    "on a road",
)
SEEDS = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """One concept's pictures, and its class word's on the same seeds."""

    clip_i: float
    """Drawn against the concept's own pictures."""
    clip_i_class: float
    """What the bare class word draws, against them."""
    clip_i_real: float
    """The concept's own pictures against each other, each pair once."""
    clip_t: float
    """Drawn against the prompt with the class word."""
    clip_t_class: float
    nearest: float
    """Share of the drawn pictures whose nearest set, of all concepts' and of all class words' drawings, is its own."""

    @property
    def closed(self) -> float:
        """Share of the gap between class word and real that is closed."""
        return (self.clip_i - self.clip_i_class) / (self.clip_i_real - self.clip_i_class)


def likenesses(
    bench: Bench, learned: Sequence[tuple[str, Delta]], *, places: Sequence[str], seeds: Sequence[int]
) -> dict[str, Likeness]:
    """Draw every concept and every class word in each place from each seed, and compare.

    Args:
        bench: a base that brings a CLIP.
        learned: concepts of a store in prompt mode.
        places: where.
        seeds: of the noise, the same for concept and class word.
    """
    clip = towers(bench.folder, name=bench.base.name, device=bench.base.device)
    assert clip is not None, bench.folder
    overlay = bench.overlay(learned, Mode.PROMPT)
    own = {name: clip.pictures(list(training_pixels(name))) for name, _ in learned}
    word = {name: bench.class_words[name] for name, _ in learned}
    drawn = {n: clip.pictures(_drawn(bench, overlay, f"a <{n}>", places, seeds)) for n in own}
    plain = {n: clip.pictures(_drawn(bench, EMPTY, f"a {word[n]}", places, seeds)) for n in own}
    sets = {**own, **{f"{n}, class word": f for n, f in plain.items()}}
    said = {n: clip.texts([f"a {word[n]} {place}" for place in places for _ in seeds]) for n in own}
    return {n: _likeness(n, drawn[n], sets, said[n]) for n in own}


def _drawn(
    bench: Bench, overlay: Overlay, subject: str, places: Sequence[str], seeds: Sequence[int]
) -> list[NDArray[np.uint8]]:
    requests = [
        Request(prompt=parse(f"{subject} {place}", overlay.concepts), seed=seed) for place in places for seed in seeds
    ]
    return [picture for _, picture in draw(bench.base, overlay, requests, bench.base.draw_defaults, batch=4)]


def _likeness(name: str, drawn: Features, sets: Mapping[str, Features], texts: Features) -> Likeness:
    own, plain = sets[name], sets[f"{name}, class word"]
    likeness = {other: (drawn @ features.T).mean(1) for other, features in sets.items()}
    nearest = np.array(list(likeness))[np.argmax(list(likeness.values()), axis=0)]
    pairs = (own @ own.T)[np.triu_indices(len(own), 1)]
    return Likeness(
        clip_i=clip_i(drawn, own),
        clip_i_class=clip_i(plain, own),
        clip_i_real=float(pairs.mean()),
        clip_t=float(row_cosines(drawn, texts).mean()),
        clip_t_class=float(row_cosines(plain, texts).mean()),
        nearest=float((nearest == name).mean()),
    )
