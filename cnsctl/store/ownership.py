"""How many concepts own each neuron, as bit planes. Adding or removing one costs the same for any number of concepts.

Plane k contains bit k of each weight's number of owners, so n concepts need log2(n) planes.

Owns this arithmetic; must not know files. Pure: no argument is changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Owned = Mapping[str, NDArray[np.int64]]
"""Per site: sorted unique flat indices. A site that is absent is empty."""

Bits = NDArray[np.uint8]
"""One bit per weight, (n_bytes(sizes),): sites by name, each starts a byte, in the order of `numpy.packbits`."""

Planes = tuple[Bits, ...]
"""Bits 0, 1, 2 … of the numbers of owners; the last plane has a bit that is set."""


def n_bytes(sizes: Mapping[str, int]) -> int:
    """Length of `Bits` for sites of these sizes (weights)."""
    return sum(-(-size // 8) for size in sizes.values())


def pack(owned: Owned, sizes: Mapping[str, int]) -> Bits:
    """Mark the neurons of one concept.

    Raises:
        ValueError: a site is unknown, or an index is not one of its weights.
    """
    if not owned.keys() <= sizes.keys():
        raise ValueError(f"{min(owned.keys() - sizes.keys())[:80]!r} is not a site of the base model")
    bits = np.zeros(n_bytes(sizes), np.uint8)
    for site, part in _parts(sizes).items():
        marked = np.zeros(sizes[site], np.bool_)
        flat = owned.get(site, np.empty(0, np.int64))
        if len(flat) and not 0 <= flat[0] <= flat[-1] < sizes[site]:
            raise ValueError(f"index {flat[-1]} of {site} is not below {sizes[site]}")
        marked[flat] = True
        bits[part] = np.packbits(marked)
    return bits


def by_site(bits: Bits, sizes: Mapping[str, int]) -> dict[str, Bits]:
    """Each site's bytes, as views."""
    return {site: bits[part] for site, part in _parts(sizes).items()}


def spare_bits(sizes: Mapping[str, int]) -> Bits:
    """Mark the bits that belong to no weight: those that fill the last byte of a site."""
    spare = np.zeros(n_bytes(sizes), np.uint8)
    for site, part in _parts(sizes).items():
        if sizes[site] % 8:
            spare[part.stop - 1] = 0xFF >> sizes[site] % 8
    return spare


def added(planes: Planes, mask: Bits) -> Planes:
    """Add one owner where the mask is set."""
    new, carry = [], mask
    for plane in planes:
        new.append(plane ^ carry)
        carry = plane & carry
    return (*new, carry) if carry.any() else tuple(new)


def removed(planes: Planes, mask: Bits) -> Planes:
    """Remove one owner where the mask is set.

    Raises:
        ValueError: a marked neuron has no owner.
    """
    new, borrow = [], mask
    for plane in planes:
        new.append(plane ^ borrow)
        borrow = ~plane & borrow
    if borrow.any():
        raise ValueError(f"{count(borrow)} neurons to release have no owner")
    while new and not new[-1].any():
        new.pop()
    return tuple(new)


def union(planes: Planes, sizes: Mapping[str, int]) -> Bits:
    """Mark the neurons that any concept owns."""
    owned = np.zeros(n_bytes(sizes), np.uint8)
    for plane in planes:
        owned |= plane
    return owned


def count(bits: Bits) -> int:
    """Count the marked neurons."""
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


def _parts(sizes: Mapping[str, int]) -> dict[str, slice]:
    parts, begin = {}, 0
    for site in sorted(sizes):
        end = begin + -(-sizes[site] // 8)
        parts[site] = slice(begin, end)
        begin = end
    return parts
