"""Random draws as arguments: every stream is named by what it is for.

Owns the derivation of seeds; must not know who draws.
"""

from __future__ import annotations

import hashlib

import torch


def fold(*parts: int | str) -> int:
    """Fold names and numbers into one 63-bit seed; the same parts give the same seed on every machine."""
    digest = hashlib.sha256("\x1f".join(str(p) for p in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(*parts: int | str) -> torch.Generator:
    """A CPU generator for these parts; CPU streams are the same on every device."""
    return torch.Generator().manual_seed(fold(*parts))
