"""Means with how sure they are.

Owns the bootstrap; must not know what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and the interval that holds it, by the values themselves."""

    mean: float
    """Of the values."""
    low: float | None
    """Lower end, or None when one value alone shows no spread."""
    high: float | None
    """Upper end, or None."""
    n: int
    """Values."""


def mean_interval(
    values: Sequence[float] | NDArray[np.floating],
    *,
    generator: np.random.Generator,
    share: float = 0.95,
    n_resamples: int = 2000,
) -> Interval:
    """Mean with its percentile bootstrap interval (Efron 1979).

    Args:
        values: (n,), independent of each other.
        generator: the same one, seeded the same, gives the same interval.
        share: of the resampled means that the interval holds.
        n_resamples: means drawn; 2000 settle two digits.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"a mean takes finite values (n,), n > 0, not {sample.shape}: {sample}")
    if not 0 < share < 1 or n_resamples < 1:
        raise ValueError(f"the interval takes a share between 0 and 1 and resamples, not {share} and {n_resamples}")
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean=mean, low=None, high=None, n=1)
    means = np.array([sample[generator.integers(sample.size, size=sample.size)].mean() for _ in range(n_resamples)])
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return Interval(mean=mean, low=float(low), high=float(high), n=sample.size)
