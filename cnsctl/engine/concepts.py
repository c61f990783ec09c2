"""Deltas as tensors on the base model's device, checked against that base model.

Owns the step from numpy to torch; must not know how deltas act.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cnsctl.errors import BaseModelError, StoreDamagedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.bases.protocol import Base
    from cnsctl.concept import Delta


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Concept:
    """A delta that is ready to act."""

    class_word: str
    vectors: Mapping[str, torch.Tensor]
    """Token embeddings per text encoder: (embeddings, width) fp32."""
    indices: Mapping[str, torch.Tensor]
    """Per site: (n,) int64, sorted, flat row-major."""
    values: Mapping[str, torch.Tensor]
    """Per site: (n,) fp32, exact in fp16."""
    key: str
    """Identifies the bytes of the delta, for the proof."""

    @property
    def n_vectors(self) -> int:
        return len(next(iter(self.vectors.values())))


def to_concept(base: Base, delta: Delta, *, key: str) -> Concept:
    """Move a delta to the base model's device.

    Raises:
        BaseModelError: it was trained on another base model.
        StoreDamagedError: it has the fingerprint of this base model, but other sites or widths.
    """
    if delta.fingerprint != base.fingerprint:
        raise BaseModelError(
            f"the concept was trained on another base model: {delta.fingerprint[:12]}",
            note=f"loaded: {base.name} {base.fingerprint[:12]}",
            hint="use the base model of the concept's store",
        )
    shapes = dict(base.shapes)
    widths = {e: v.shape[1] for e, v in delta.vectors.items()}
    if {s: tuple(d) for s, d in delta.shapes.items()} != shapes or widths != dict(base.vector_widths):
        raise StoreDamagedError(
            "the sites or widths of a delta differ from those of its base model", hint="train the concept again"
        )
    return Concept(
        class_word=delta.class_word,
        vectors={e: torch.from_numpy(v.astype(np.float32)).to(base.device) for e, v in delta.vectors.items()},
        indices={s: torch.from_numpy(np.asarray(delta.indices[s], dtype=np.int64)).to(base.device) for s in shapes},
        values={s: torch.from_numpy(delta.values[s].astype(np.float32)).to(base.device) for s in shapes},
        key=key,
    )
