"""What was lost: scores against their value at learning time, pictures against themselves.

Owns the differences; must not know how scores or pictures came about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far pictures are from what they were, in levels of 0 to 255."""

    max_abs: int
    """The largest difference of any one value."""
    mean_abs: float
    """The mean difference over all values of all pictures."""
    changed: int
    """Pictures with any difference at all."""


def forgetting(learned: float | None, now: float | None) -> float | None:
    """Score right after learning minus score now: positive is lost. None when either was not measured."""
    if learned is None or now is None:
        return None
    if not (math.isfinite(learned) and math.isfinite(now)):
        raise ValueError(f"scores must be finite, not {learned} and {now}")
    return learned - now


def drift(now: Sequence[NDArray[np.uint8]], before: Sequence[NDArray[np.uint8]]) -> Drift:
    """Compare pictures with the same ones before, one by one.

    Args:
        now: (h, w, 3) each; sizes may differ from picture to picture.
        before: as many, of the same sizes.
    """
    if not now or len(now) != len(before):
        raise ValueError(f"{len(now)} pictures cannot be compared with {len(before)}")
    differences = [np.abs(_difference(a, b)) for a, b in zip(now, before, strict=True)]
    return Drift(
        max_abs=max(int(d.max()) for d in differences),
        mean_abs=sum(int(d.sum()) for d in differences) / sum(d.size for d in differences),
        changed=sum(bool(d.any()) for d in differences),
    )


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two pictures of one shape, in dB over 255 levels; equal ones give infinity."""
    error = float(np.square(_difference(a, b), dtype=np.float64).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Subtract in int16: uint8 would wrap around."""
    if a.dtype != np.uint8 or b.dtype != np.uint8 or a.shape != b.shape or a.ndim != 3 or a.size == 0:
        raise ValueError(
            f"uint8 pictures (h, w, 3) of one size are compared, not {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        )
    return a.astype(np.int16) - b.astype(np.int16)
