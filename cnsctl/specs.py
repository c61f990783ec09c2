"""Frozen values that cross layers: settings, prompts, deltas.

Owns shapes and meanings of values; must not know tensors, files or terminals (numpy is imported for type checking only).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
"""Version of everything a user or another program may read: JSON envelopes, store, delta files."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""A concept's name, by `fullmatch`."""


class Mode(StrEnum):
    """How the deltas of a store act on a prompt (docs/method.md)."""

    MERGED = "merged"
    PROMPT = "prompt"
    TOKEN = "token"  # noqa: S105  a mode, no secret


DEFAULT_MODE = Mode.TOKEN
"""Of new stores: nothing is forgotten, and two concepts in a prompt go together (docs/learning.md)."""


class Policy(StrEnum):
    """What selection does about neurons that other concepts own; it matters in merged alone."""

    OVERLAP = "overlap"
    PREFER_FREE = "prefer-free"
    EXCLUSIVE = "exclusive"


class Select(StrEnum):
    """How concept neurons follow from the scores (docs/method.md)."""

    EXACT = "exact"
    """The highest scores that are not general, until the budget is met exactly (ours)."""
    INTERSECT = "intersect"
    """The highest scores, less the general neurons: the paper's mask. The budget is an upper limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnSpec:
    """How one concept is learned. Rates belong to a base: take its `learn_defaults`, then replace fields."""

    steps: int
    """Steps in all; the first fifth trains the token alone."""
    batch: int = 4
    """Noised pictures per step."""
    rate_values: float
    """Learning rate of the K/V values (AdamW)."""
    rate_vectors: float
    """Learning rate of the token vectors (AdamW)."""
    vectors: int = 1
    """Token vectors per concept."""
    budget: float
    """Share of the K/V weights that the concept may change, 0 < budget ≤ 1."""
    policy: Policy = Policy.OVERLAP
    """In merged: what to do about neurons that other concepts own."""
    select: Select = Select.EXACT
    """How concept neurons follow from the scores."""
    seed: int = 0
    """Decides every random draw of the learning."""
    warmup: float = 0.2
    """Share of the steps that trains the token alone, before the score."""
    lambda_prev: float = 0.0
    """In merged: weight of the pull towards the values that earlier concepts own."""
    lambda_base: float = 0.0
    """In merged: weight of the pull towards the base's values."""
    orthogonal: bool = False
    """In merged: learn only in directions that earlier concepts' K and V do not read."""
    random_mask: bool = False
    """Control: a random mask of the same size instead of the scored one."""


LEARN_LIMITS: Mapping[str, tuple[float, float]] = {
    "steps": (2, 100_000),
    "batch": (1, 1024),
    "vectors": (1, 16),
    "seed": (0, 2**62),
    "rate_values": (1e-9, 1),
    "rate_vectors": (1e-9, 1),
    "budget": (1e-9, 1),
    "warmup": (0.0, 1.0),
    "lambda_prev": (0, 1e6),
    "lambda_base": (0, 1e6),
}
"""Least and largest of what a number of `LearnSpec` may be; whole limits are of whole numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawSpec:
    """How pictures are drawn. Sizes and samplers belong to a base: take its `draw_defaults`."""

    steps: int
    """Denoising steps."""
    guidance: float
    """Classifier-free guidance; 1 switches it off."""
    sampler: str
    """Name of the sampler: see `bases.samplers`."""
    size: int
    """Height and width in pixels."""


DRAW_LIMITS: Mapping[str, tuple[float, float]] = {"steps": (1, 999), "guidance": (0.0, 100.0), "size": (64, 4096)}
"""The same of `DrawSpec`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A concept named in a prompt."""

    name: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A text split at the concepts it names: `("a ", Mention("dog"), " on a beach")`."""

    text: str
    """As the user wrote it."""
    pieces: tuple[str | Mention, ...]

    @property
    def mentions(self) -> tuple[Mention, ...]:
        """Each concept once, in order of first appearance."""
        seen = {p.name: p for p in reversed(self.pieces) if isinstance(p, Mention)}
        return tuple(m for m in dict.fromkeys(p for p in self.pieces if isinstance(p, Mention)) if seen[m.name] == m)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delta:
    """The sparse change that one concept makes to the K/V weights, and its token vectors.

    It carries no name, time or host: the same learning gives the same bytes, and renaming is free.
    """

    shapes: Mapping[str, tuple[int, int]]
    """Per site: rows (outputs) and columns (text width) of its weight. Every site of the base is present."""
    indices: Mapping[str, NDArray[np.int64]]
    """Per site: sorted unique flat row-major indices of the neurons."""
    values: Mapping[str, NDArray[np.float16]]
    """Per site: the new values at them (values, not differences)."""
    vectors: Mapping[str, NDArray[np.float16]]
    """Per text encoder: the learned token embeddings, (vectors, width)."""
    class_word: str
    """What stands behind the token in a prompt: `V* dog`."""
    fingerprint: str
    """Of the base it belongs to."""
    mode: Mode
    """Mode of the store it was learned in."""
    recipe: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Settings of the learning, for people and for `check`."""

    @property
    def n_neurons(self) -> int:
        return sum(len(i) for i in self.indices.values())
