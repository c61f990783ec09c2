"""Frozen values that cross layers: modes, prompts, deltas.

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

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""A concept's name, by `fullmatch`."""


def plain_name(text: str) -> str:
    """A name as it is in prompts, `<dog>` or `@dog`, without these signs; another text unchanged."""
    if text.startswith("<") and text.endswith(">"):
        return text[1:-1].strip()
    return text.removeprefix("@")


class Mode(StrEnum):
    """Which deltas of a store act on a prompt, and on which tokens (docs/explanation/method.md)."""

    TOKEN = "token"  # noqa: S105  a mode, not a secret
    PROMPT = "prompt"
    MERGED = "merged"


DEFAULT_MODE = Mode.TOKEN
"""Mode of new stores: forgetting is zero, and two concepts in a prompt compose (docs/results/learning.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A concept named in a prompt."""

    name: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A text, split at the concepts that it names: `("a ", Mention("dog"), " on a beach")`."""

    text: str
    """As written by the user."""
    pieces: tuple[str | Mention, ...]

    @property
    def mentions(self) -> tuple[Mention, ...]:
        """Each concept once, in order of first appearance."""
        seen = {p.name: p for p in reversed(self.pieces) if isinstance(p, Mention)}
        return tuple(m for m in dict.fromkeys(p for p in self.pieces if isinstance(p, Mention)) if seen[m.name] == m)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delta:
    """The sparse change that one concept makes to the K/V weights, and its token embeddings.

    It does not contain a name, time or host: equal training runs give equal bytes, and renaming does not change it.
    """

    shapes: Mapping[str, tuple[int, int]]
    """Per site: rows (outputs) and columns (text width) of its weight. Every site of the base model is present."""
    indices: Mapping[str, NDArray[np.int64]]
    """Per site: sorted unique flat row-major indices of the neurons."""
    values: Mapping[str, NDArray[np.float16]]
    """Per site: the new values at them (values, not differences)."""
    vectors: Mapping[str, NDArray[np.float16]]
    """Per text encoder: the trained token embeddings, (embeddings, width)."""
    class_word: str
    """Follows the token embeddings in a prompt: `V* dog`. Empty if they stand alone, as in Textual Inversion."""
    fingerprint: str
    """Of its base model."""
    mode: Mode
    """Mode of the store in which it was trained, or fitted to its tokens after an import."""
    recipe: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Settings of the training run."""
    more: Mapping[str, object] = field(default_factory=dict)
    """Metadata that a newer version added to its file."""

    @property
    def n_neurons(self) -> int:
        return sum(len(i) for i in self.indices.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Which part of an original image is seen, in pixels; SDXL is conditioned on it."""

    original: tuple[int, int]
    """Height and width of the original image."""
    crop: tuple[int, int] = (0, 0)
    """Top and left of the part that is kept, in the image as it was resized."""
    target: tuple[int, int]
    """Height and width of the part that is kept."""
