"""Second moments of text features: at a concept's own tokens, at other words, and at start, end and padding.

K and V depend on a text only through its features X. So the mean of x·xᵀ over tokens says how strongly any change of a
site's weight acts on them: mean ‖ΔW·x‖² = tr(ΔW·C·ΔWᵀ).

Owns which token counts as what; must not know prompts' wording or what a moment is used for.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cnsctl.bases.protocol import Slot
from cnsctl.engine.prompt_tokens import SplicedText, features, splice
from cnsctl.errors import UsageError
from cnsctl.events import result_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from cnsctl.bases.protocol import Base
    from cnsctl.concept import Prompt
    from cnsctl.engine.concepts import Concept

TEXTS_AT_ONCE = 16

_FLOOR = 1e-10
"""Eigenvalues below this share of the largest are rounding errors, in float64."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Means of x·xᵀ over tokens: (columns, columns) float64 on the CPU each."""

    own: Mapping[str, torch.Tensor]
    """Per concept: at its own tokens, token embeddings and class word."""
    words: torch.Tensor
    """At all other words: beside a concept, and in texts without one."""
    frame: torch.Tensor
    """At start, end and padding, which cross-attention reads as well."""


def second_moments(base: Base, concepts: Mapping[str, Concept], prompts: Sequence[Prompt]) -> Moments:
    """The result of `finding_moments`."""
    return result_of(finding_moments(base, concepts, prompts))


def finding_moments(
    base: Base, concepts: Mapping[str, Concept], prompts: Sequence[Prompt]
) -> Generator[int, None, Moments]:
    """Moments over prompts.

    Args:
        base: of the concepts.
        concepts: by the name in the prompts.
        prompts: some that name concepts, and some that do not.

    Yields:
        The prompts that are done.

    Raises:
        UsageError: a concept fits into none of them.
    """
    columns = next(iter(base.shapes.values()))[1]
    sums = {name: _Sum(columns) for name in concepts}
    words, frame = _Sum(columns), _Sum(columns)
    for done, (text, x) in enumerate(_features(base, concepts, prompts), start=1):  # x: (t, columns)
        named: set[int] = set()
        for name, at in text.spans.items():
            sums[name].add(x[list(at)])
            named.update(at)
        real = set(text.tokens.real)
        words.add(x[sorted(real - named)])
        frame.add(x[sorted(set(range(len(x))) - real)])
        yield done
    for name, one in sums.items():
        if not one.tokens:
            raise UsageError(f"<{name}> fits into none of the prompts: {concepts[name].n_vectors} token embeddings")
    return Moments(own={name: one.mean() for name, one in sums.items()}, words=words.mean(), frame=frame.mean())


def significant(C: torch.Tensor, floor: float = _FLOOR) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (k,), largest first, and eigenvectors (n, k) of a symmetric matrix (n, n), without rounding errors.

    Args:
        C: the matrix.
        floor: share of the largest eigenvalue, below which others are left out.
    """
    values, vectors = torch.linalg.eigh((C + C.T) / 2)
    kept = values > floor * values[-1].clamp(min=torch.finfo(values.dtype).tiny)
    return values[kept].flip(0), vectors[:, kept].flip(1)


def _features(
    base: Base, concepts: Mapping[str, Concept], prompts: Sequence[Prompt]
) -> Iterator[tuple[SplicedText, torch.Tensor]]:
    slots = {n: Slot(name=n, class_word=c.class_word, n_vectors=c.n_vectors) for n, c in concepts.items()}
    texts = []
    for prompt in prompts:
        with suppress(UsageError):  # the concept does not fit into the text length behind these words
            texts.append(splice(base, prompt, slots))
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        some = texts[first : first + TEXTS_AT_ONCE]
        with torch.no_grad():
            found = features(base, some, {name: c.vectors for name, c in concepts.items()}).x
        yield from zip(some, found.cpu(), strict=True)


class _Sum:
    """A sum of x·xᵀ in float64: own and other tokens are separated by small differences of nearly equal features."""

    def __init__(self, columns: int) -> None:
        self.total = torch.zeros((columns, columns), dtype=torch.float64)
        self.tokens = 0

    def add(self, x: torch.Tensor) -> None:
        """x: (n, columns)."""
        wide = x.double()
        self.total.addmm_(wide.T, wide)
        self.tokens += len(wide)

    def mean(self) -> torch.Tensor:
        return self.total / max(1, self.tokens)
