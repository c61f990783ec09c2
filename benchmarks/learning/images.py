"""Scores of generated images: similarity to the concept, agreement with the text, and the most similar set.

Owns the prompts and seeds; must not know questions or tables.
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
    """Images of a concept, and of its class word on the same seeds."""

    clip_i: float
    """Generated images against the concept's training images."""
    clip_i_class: float
    """The same for images generated with the class word alone."""
    clip_i_prompt_only: float
    """The same for the prompt-only baseline; NaN if the concept has no description."""
    clip_i_real: float
    """The concept's training images against each other, each pair once."""
    clip_t: float
    """Generated images against the prompt with the class word."""
    clip_t_class: float
    clip_t_prompt_only: float
    clip_t_real: float
    """Held-out images against their captions with the class word, which suggests the class's usual colours."""
    place: float
    """Share of the generated images whose own prompt is the nearest of the prompts in all places."""
    place_class: float
    nearest: float
    """Share of the generated images whose nearest set, among all concepts and class words, is their own."""

    @property
    def closed(self) -> float:
        """Share of the gap between class word and real that the concept closes."""
        return (self.clip_i - self.clip_i_class) / (self.clip_i_real - self.clip_i_class)


def likenesses(
    bench: Bench, trained: Sequence[tuple[str, Delta]], *, places: Sequence[str], seeds: Sequence[int]
) -> dict[str, Likeness]:
    """Generate each concept and each class word in each place with each seed, and compare.

    Args:
        bench: on a base model with a CLIP.
        trained: concepts of a store in the default mode.
        places: ends of the prompts, such as `on a beach`.
        seeds: of the noise, the same for concept and class word.
    """
    clip = towers(bench.folder, name=bench.base.name, device=bench.base.device)
    assert clip is not None, bench.folder
    overlay = bench.overlay(trained, DEFAULT_MODE)
    own = {name: clip.images(list(training_pixels(name))) for name, _ in trained}
    generated = {n: clip.images(_images(bench, overlay, f"a <{n}>", places, seeds)) for n in own}
    plain = {n: clip.images(_images(bench, EMPTY, bench.bare[n], places, seeds)) for n in own}
    prompt_only = {
        n: clip.images(_images(bench, EMPTY, bench.described[n], places, seeds)) for n in own if n in bench.described
    }
    sets = {**own, **{f"{n}, class word": f for n, f in plain.items()}}
    prompts = {n: clip.texts([f"{bench.bare[n]} {place}" for place in places]) for n in own}
    real = {n: _real_text(bench, clip, n) for n in own}
    return {
        n: _likeness(n, generated[n], prompt_only.get(n), sets=sets, prompts=prompts[n], clip_t_real=real[n])
        for n in own
    }


def in_place(generated: Features, prompts: Features, at: NDArray[np.intp]) -> float:
    """Share of the images whose own prompt, row `at` of the prompts, is the nearest prompt."""
    found = nearest(generated, {str(i): prompts[i : i + 1] for i in range(len(prompts))})
    return accuracy(found, [str(i) for i in at])


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """Scores of the halves of images that show a pair."""

    own: float
    """Mean similarity of a half to real halves of the concept that the prompt puts there."""
    other: float
    """The same to real halves of the other concept; compare it with that of the held-out scenes."""
    right: float
    """Share of the halves that are nearer to their own concept."""


def halves(
    bench: Bench,
    ways: Mapping[str, tuple[Overlay, Mapping[str, str]]],
    pairs: Sequence[Scene],
    *,
    seeds: Sequence[int],
) -> dict[str, Halves]:
    """Generate held-out pairs in several ways, and compare each half with halves of the real scenes.

    Args:
        bench: on a base model with a CLIP.
        ways: by name: the overlay, and words for the concepts that it does not contain.
        pairs: scenes whose caption names the left and then the right concept.
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
        generated = [clip.images(_split(p)) for p in bench.images(overlay, requests)]
        found[name] = _halves([s for s in pairs for _ in seeds], generated, pairs, real, itself=False)
    return found


def _halves(
    asked: Sequence[Scene], seen: Sequence[Features], scenes: Sequence[Scene], real: Sequence[Features], *, itself: bool
) -> Halves:
    """Features (2, d) per image: left, right; a real scene (`itself`) is not compared with itself."""
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
    """Left and right half (h, w / 2, 3), each padded to a square by repeating its edges."""
    height, width, _ = pixels.shape
    margin = (height - width // 2) // 2
    return [
        np.pad(half, ((0, 0), (margin, margin), (0, 0)), mode="edge")
        for half in (pixels[:, : width // 2], pixels[:, width // 2 :])
    ]


def _images(
    bench: Bench, overlay: Overlay, subject: str, places: Sequence[str], seeds: Sequence[int]
) -> list[NDArray[np.uint8]]:
    requests = [
        Request(prompt=parse(f"{subject} {place}", overlay.concepts), seed=seed) for place in places for seed in seeds
    ]
    return bench.images(overlay, requests)


def _real_text(bench: Bench, clip: ClipTowers, name: str) -> float:
    """CLIP-T of held-out scenes of a concept with its class word; NaN if there are none."""
    scenes = bench.scenes_of(name)
    if not scenes:
        return math.nan
    texts = clip.texts([said(scene, bench.bare) for scene in scenes])
    return clip_t(clip.images(list(bench.pixels_of(scenes))), texts)


def _likeness(
    name: str,
    generated: Features,
    prompt_only: Features | None,
    *,
    sets: Mapping[str, Features],
    prompts: Features,
    clip_t_real: float,
) -> Likeness:
    """Features of images (places · seeds, d), place by place; of prompts with the class word (places, d)."""
    own, plain = sets[name], sets[f"{name}, class word"]
    at = np.repeat(np.arange(len(prompts)), len(generated) // len(prompts))
    return Likeness(
        clip_i=clip_i(generated, own),
        clip_i_class=clip_i(plain, own),
        clip_i_prompt_only=math.nan if prompt_only is None else clip_i(prompt_only, own),
        clip_i_real=likeness_within(own),
        clip_t=clip_t(generated, prompts[at]),
        clip_t_class=clip_t(plain, prompts[at]),
        clip_t_prompt_only=math.nan if prompt_only is None else clip_t(prompt_only, prompts[at]),
        clip_t_real=clip_t_real,
        place=in_place(generated, prompts, at),
        place_class=in_place(plain, prompts, at),
        nearest=accuracy(nearest(generated, sets), [name] * len(generated)),
    )
