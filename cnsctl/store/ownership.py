"""Who owns which neurons, in counts.

Owns set arithmetic on sorted indices per site; must not know where they are kept. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Owned = Mapping[str, NDArray[np.int64]]
"""Per site: sorted unique flat indices. A site that is absent is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What was counted in one pass over all concepts."""

    owned: int
    """Neurons that any concept owns."""
    overlaps: Mapping[tuple[str, str], int]
    """Per pair of a new concept and another one, in that order: neurons that both own. Zeros are in it."""


def take_census(everyone: Iterable[tuple[str, Owned]], new: Mapping[str, Owned], sizes: Mapping[str, int]) -> Census:
    """Count owned neurons, and those that the new concepts share with each other one.

    Only the new concepts are held, and a byte per weight: the others may be a stream of any length.

    Args:
        everyone: key and neurons of every concept, the new ones included.
        new: those whose overlaps are not known yet, by key.
        sizes: weights per site.
    """
    theirs = {key: {site: _mask(flat, sizes[site]) for site, flat in owned.items()} for key, owned in new.items()}
    union = {site: np.zeros(size, np.bool_) for site, size in sizes.items()}
    overlaps: dict[tuple[str, str], int] = {}
    for other, owned in everyone:
        for site, flat in owned.items():
            union[site][flat] = True
        for key, masks in theirs.items():
            if key != other:
                overlaps[key, other] = _shared(masks, owned)
    return Census(owned=sum(int(np.count_nonzero(mask)) for mask in union.values()), overlaps=overlaps)


def overlap(a: Owned, b: Owned) -> int:
    """Count the neurons that both own."""
    return sum(len(np.intersect1d(a[site], b[site], assume_unique=True)) for site in a.keys() & b.keys())


def _mask(flat: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    mask = np.zeros(size, np.bool_)
    mask[flat] = True
    return mask


def _shared(masks: Mapping[str, NDArray[np.bool_]], owned: Owned) -> int:
    return sum(int(np.count_nonzero(masks[site][flat])) for site, flat in owned.items() if site in masks)
