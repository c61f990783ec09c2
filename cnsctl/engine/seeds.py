"""Random generators, each named after its purpose.

Owns the derivation of seeds; must not know what they are used for.
"""

from __future__ import annotations

import hashlib

import torch


def fold(*parts: int | str) -> int:
    """Hash names and numbers to one 63-bit seed; the same parts give the same seed on every machine."""
    digest = hashlib.sha256("\x1f".join(str(p) for p in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(*parts: int | str) -> torch.Generator:
    """A generator seeded with these parts. It is on the CPU, so its numbers do not depend on the device."""
    return torch.Generator().manual_seed(fold(*parts))
