"""What was lost: scores compared with those after training, images with earlier ones.

Owns the differences; must not know how scores or images were made.
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
    """How far images are from earlier ones, in levels of 0 to 255."""

    max_abs: int
    """The largest difference of a value."""
    mean_abs: float
    """The mean absolute difference over all values of all images."""
    changed: int
    """Images with any difference."""


def forgetting(trained: float | None, now: float | None) -> float | None:
    """The score right after training minus the score now: positive is lost. None if either was not measured."""
    if trained is None or now is None:
        return None
    if not (math.isfinite(trained) and math.isfinite(now)):
        raise ValueError(f"scores must be finite, not {trained} and {now}")
    return trained - now


def drift(now: Sequence[NDArray[np.uint8]], before: Sequence[NDArray[np.uint8]]) -> Drift:
    """Compare images with the earlier ones, one by one.

    Args:
        now: (h, w, 3) each; the sizes may differ from image to image.
        before: the earlier images, in the same order and sizes.
    """
    if not now or len(now) != len(before):
        raise ValueError(f"cannot compare {len(now)} images with {len(before)}")
    differences = [np.abs(_difference(a, b)) for a, b in zip(now, before, strict=True)]
    return Drift(
        max_abs=max(int(d.max()) for d in differences),
        mean_abs=sum(int(d.sum()) for d in differences) / sum(d.size for d in differences),
        changed=sum(bool(d.any()) for d in differences),
    )


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two images of one shape, in dB over 255 levels; infinite if they are equal."""
    error = float(np.square(_difference(a, b), dtype=np.float64).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Subtract in int16, because uint8 would overflow."""
    if a.dtype != np.uint8 or b.dtype != np.uint8 or a.shape != b.shape or a.ndim != 3 or a.size == 0:
        raise ValueError(f"images must be uint8 (h, w, 3) of one size, not {a.dtype} {a.shape} and {b.dtype} {b.shape}")
    return a.astype(np.int16) - b.astype(np.int16)
