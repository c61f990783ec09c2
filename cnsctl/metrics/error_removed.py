"""The share of the denoising error that a concept removes.

Owns the ratio; must not know models, times or noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def error_removed(with_: ArrayLike, without: ArrayLike) -> float:
    """Percent of the error that naming the concept removes: 100 · (1 - with/without), of the mean errors.

    Negative if the concept increases the error; 100 if the error is 0. The mean is taken before the ratio, so that an
    image or time with hardly any error cannot decide the result.

    Args:
        with_: errors with the concept, (n,) or one number, each at the same image, time and noise as in `without`.
        without: errors with the class word alone, of the same shape.
    """
    named, bare = np.asarray(with_, dtype=np.float64), np.asarray(without, dtype=np.float64)
    if named.shape != bare.shape or named.ndim > 1 or named.size == 0:
        raise ValueError(f"errors must be pairs of shape (n,), not {named.shape} and {bare.shape}")
    if not (np.isfinite(named).all() and np.isfinite(bare).all() and named.min() >= 0 and bare.min() >= 0):
        raise ValueError("errors must be finite and not negative")
    if bare.mean() == 0:
        raise ValueError("the error with the class word alone is 0: the share is undefined")
    return 100 * (1 - float(named.mean() / bare.mean()))
