"""What pictures show of a concept: likeness, obedience to the text, and whose pictures they resemble most.

Owns which prompts and seeds are drawn; must not know questions or tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.learning.bench import Bench, said, training_pixels
from cnsctl.bases.clip import towers
from cnsctl.concept import DEFAULT_MODE, Delta
from cnsctl.data.prompt_grammar import parse
from cnsctl.engine.generate import Request
from cnsctl.engine.overlay import EMPTY, Overlay
from cnsctl.metrics.similarity import accuracy, clip_i, clip_t, likeness_within, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.learning.bench import Scene
    from cnsctl.bases.clip import ClipTowers

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
    """ImageReady against the concept's own pictures."""
    clip_i_class: float
    """What the bare class word draws, against them."""
    clip_i_told: float
    """What the base draws when words say all that they can; not a number where nobody described the concept."""
    clip_i_real: float
    """The concept's own pictures against each other, each pair once."""
    clip_t: float
    """ImageReady against the prompt with the class word."""
    clip_t_class: float
    clip_t_told: float
    clip_t_real: float
    """Real pictures of it against their captions with the class word: a bare word means its usual colours."""
    place: float
    """Share of the drawn pictures for which, of the prompts in all places, the one in its own place is nearest."""
    place_class: float
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
        learned: concepts of a store in the default mode.
        places: where.
        seeds: of the noise, the same for concept and class word.
    """
    clip = towers(bench.folder, name=bench.base.name, device=bench.base.device)
    assert clip is not None, bench.folder
    overlay = bench.overlay(learned, DEFAULT_MODE)
    own = {name: clip.images(list(training_pixels(name))) for name, _ in learned}
    drawn = {n: clip.images(_drawn(bench, overlay, f"a <{n}>", places, seeds)) for n in own}
    plain = {n: clip.images(_drawn(bench, EMPTY, bench.bare[n], places, seeds)) for n in own}
    told = {
        n: clip.images(_drawn(bench, EMPTY, bench.described[n], places, seeds)) for n in own if n in bench.described
    }
    sets = {**own, **{f"{n}, class word": f for n, f in plain.items()}}
    prompts = {n: clip.texts([f"{bench.bare[n]} {place}" for place in places]) for n in own}
    real = {n: _real_text(bench, clip, n) for n in own}
    return {n: _likeness(n, drawn[n], told.get(n), sets=sets, prompts=prompts[n], clip_t_real=real[n]) for n in own}


def in_place(drawn: Features, prompts: Features, at: NDArray[np.intp]) -> float:
    """Share of the pictures whose own prompt, in row `at` of all prompts, is the nearest of them."""
    found = nearest(drawn, {str(i): prompts[i : i + 1] for i in range(len(prompts))})
    return accuracy(found, [str(i) for i in at])


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """Pictures of pairs, each half by itself."""

    own: float
    """Mean likeness of a half to real halves of the concept that was asked for there."""
    other: float
    """The same to the other one's: what bleeds, beside what the real scenes have of it anyway."""
    right: float
    """Share of the halves that are nearer to their own concept's."""


def halves(
    bench: Bench,
    ways: Mapping[str, tuple[Overlay, Mapping[str, str]]],
    pairs: Sequence[Scene],
    *,
    seeds: Sequence[int],
) -> dict[str, Halves]:
    """Draw held-out pairs in several ways, and compare each half with halves of the real scenes.

    Args:
        bench: a base that brings a CLIP.
        ways: by name: what draws, and the words that stand for concepts it does not have.
        pairs: scenes that say who stands left and who right, in this order.
        seeds: of the noise.
    """
    clip = towers(bench.folder, name=bench.base.name, device=bench.base.device)
    assert clip is not None, bench.folder
    real = [clip.images(_split(pixels)) for pixels in bench.pixels_of(pairs)]
    found = {"held-out scenes": _halves(pairs, real, pairs, real, itself=True)}
    for name, (overlay, words) in ways.items():
        requests = [
            Request(prompt=parse(said(scene, words), overlay.concepts), seed=seed) for scene in pairs for seed in seeds
        ]
        drawn = [clip.images(_split(p)) for p in bench.drawn(overlay, requests)]
        found[name] = _halves([s for s in pairs for _ in seeds], drawn, pairs, real, itself=False)
    return found


def _halves(
    asked: Sequence[Scene], seen: Sequence[Features], scenes: Sequence[Scene], real: Sequence[Features], *, itself: bool
) -> Halves:
    """Features (2, d) per picture: left, right; a real scene (`itself`) is not compared with itself."""
    own, other = [], []
    for i, (scene, features) in enumerate(zip(asked, seen, strict=True)):
        sets: dict[str, list[NDArray[np.float32]]] = {}
        for j, (shown, halves_of) in enumerate(zip(scenes, real, strict=True)):
            if not (itself and i == j):
                for concept, half in zip(shown.concepts, halves_of, strict=True):
                    sets.setdefault(concept, []).append(half)
        for side, concept in enumerate(scene.concepts):
            half = features[side : side + 1]
            own.append(clip_i(half, np.stack(sets[concept])))
            other.append(clip_i(half, np.stack(sets[scene.concepts[1 - side]])))
    return Halves(
        own=float(np.mean(own)), other=float(np.mean(other)), right=float(np.mean(np.array(own) > np.array(other)))
    )


def _split(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Left and right half (h, w / 2, 3), each made square again by repeating its edges."""
    height, width, _ = pixels.shape
    margin = (height - width // 2) // 2
    return [
        np.pad(half, ((0, 0), (margin, margin), (0, 0)), mode="edge")
        for half in (pixels[:, : width // 2], pixels[:, width // 2 :])
    ]


def _drawn(
    bench: Bench, overlay: Overlay, subject: str, places: Sequence[str], seeds: Sequence[int]
) -> list[NDArray[np.uint8]]:
    requests = [
        Request(prompt=parse(f"{subject} {place}", overlay.concepts), seed=seed) for place in places for seed in seeds
    ]
    return bench.drawn(overlay, requests)


def _real_text(bench: Bench, clip: ClipTowers, name: str) -> float:
    """CLIP-T of held-out scenes of a concept with its class word; not a number where there are none."""
    scenes = bench.scenes_of(name)
    if not scenes:
        return math.nan
    texts = clip.texts([said(scene, bench.bare) for scene in scenes])
    return clip_t(clip.images(list(bench.pixels_of(scenes))), texts)


def _likeness(
    name: str,
    drawn: Features,
    told: Features | None,
    *,
    sets: Mapping[str, Features],
    prompts: Features,
    clip_t_real: float,
) -> Likeness:
    """Features of pictures (places · seeds, d), place by place; of prompts with the class word (places, d)."""
    own, plain = sets[name], sets[f"{name}, class word"]
    at = np.repeat(np.arange(len(prompts)), len(drawn) // len(prompts))
    return Likeness(
        clip_i=clip_i(drawn, own),
        clip_i_class=clip_i(plain, own),
        clip_i_told=math.nan if told is None else clip_i(told, own),
        clip_i_real=likeness_within(own),
        clip_t=clip_t(drawn, prompts[at]),
        clip_t_class=clip_t(plain, prompts[at]),
        clip_t_told=math.nan if told is None else clip_t(told, prompts[at]),
        clip_t_real=clip_t_real,
        place=in_place(drawn, prompts, at),
        place_class=in_place(plain, prompts, at),
        nearest=accuracy(nearest(drawn, sets), [name] * len(drawn)),
    )
