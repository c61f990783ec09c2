"""Sorted indices as gaps: one byte for nearly every neuron.

Owns the coding of one site's indices; must not know files or sites.

An index is coded as its distance from the previous one, minus one; the first counts from −1. The largest code means "add
it and continue", any other code ends the gap. A site uses one or two bytes per code, whichever is smaller.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8] | NDArray[np.uint16]


def encode_gaps(flat: NDArray[np.int64]) -> Codes:
    """Code sorted unique indices ≥ 0: (n,) → (at least n,), uint8 or little-endian uint16."""
    gaps = np.diff(flat, prepend=-1) - 1  # (n,), each ≥ 0
    if 2 * _n_codes(gaps, 0xFFFF) < _n_codes(gaps, 0xFF):
        return _coded(gaps, 0xFFFF).astype("<u2")
    return _coded(gaps, 0xFF).astype(np.uint8)


def decode_gaps(codes: Codes, size: int) -> NDArray[np.int64]:
    """Decode indices, which are sorted and unique by construction: (m,) → (at most m,).

    Args:
        codes: uint8 or uint16.
        size: number of weights of the site: every index is below it.

    Raises:
        ValueError: the last gap does not end, or an index is out of bounds.
    """
    if not len(codes):
        return np.empty(0, np.int64)
    more = np.iinfo(codes.dtype).max
    ends = np.flatnonzero(codes != more)
    if not len(ends) or ends[-1] != len(codes) - 1:
        raise ValueError("the last gap does not end")
    reached = np.cumsum(codes, dtype=np.int64)
    flat: NDArray[np.int64] = (reached if len(ends) == len(codes) else reached[ends]) + np.arange(len(ends))
    if flat[-1] >= size:
        raise ValueError(f"index {flat[-1]} is past the last weight, {size - 1}")
    return flat


def _n_codes(gaps: NDArray[np.int64], more: int) -> int:
    return len(gaps) + int((gaps // more).sum()) if len(gaps) and gaps.max() >= more else len(gaps)


def _coded(gaps: NDArray[np.int64], more: int) -> NDArray[np.int64]:
    if not len(gaps) or gaps.max() < more:
        return gaps
    ends = np.cumsum(gaps // more + 1) - 1
    codes = np.full(int(ends[-1]) + 1, more, np.int64)
    codes[ends] = gaps % more
    return codes
