"""What a file of another program says beside what is read: its base model, and how much of its change is left out.

Owns these figures; must not know how a concept is made from a file.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from cnsctl.formats.tensor_file import FLOATS
from cnsctl.key_names import Leaf, is_keys_or_values, key_table, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from cnsctl.formats.tensor_file import Entry, Header, TensorFile

BY_WIDTH: Mapping[int, str] = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    2048: "Stable Diffusion XL",
    4096: "a base model with T5, such as PixArt",
}
"""Base models by the width of their text."""

_LARGEST = 1 << 26
"""Numbers in a tensor that is read for its norm; the token table of SD 2.x has 5 · 10⁷."""

_KINDS: Mapping[str, re.Pattern[str]] = {
    "text encoder": re.compile(r"lora_te|text_encoder|text_model"),
    "token embeddings of several concepts": re.compile(r"modifier_token|bundle_emb"),
    "self-attention": re.compile(r"attn1"),
    "queries and outputs of cross-attention": re.compile(r"attn2"),
    "feed-forward layers": re.compile(r"[._]ff[._]"),
    "projections around attention": re.compile(r"proj_(in|out)"),
    "convolutions and time embeddings": re.compile(r"conv|resnet|in_layers|out_layers|emb|sampl|skip|_op"),
}
"""Kinds of layers, by the names of their tensors; the first that matches."""


def made_for(header: Header) -> str | None:
    """The family of base models that a file's K and V weights belong to, by their width; None if it is not known."""
    for key, entry in header.entries.items():
        stem, leaf = split(key)
        if leaf in {Leaf.DOWN, Leaf.DIFFERENCE, Leaf.WHOLE} and is_keys_or_values(stem) and len(entry.shape) >= 2:
            return BY_WIDTH.get(entry.shape[1])
    return None


def kinds(names: Iterable[str]) -> str:
    """Names of tensors by kind of layer: "text encoder (72), self-attention (64)"."""
    counts = Counter(next((k for k, pattern in _KINDS.items() if pattern.search(name)), "others") for name in names)
    return ", ".join(f"{kind} ({n})" for kind, n in counts.most_common())


def share_left_out(file: TensorFile, shapes: Mapping[str, tuple[int, int]]) -> float | None:
    """The share of the norm of a file's change that is outside of the sites of a base model; None if it cannot be computed.

    Args:
        file: of LoRA factors or dense differences.
        shapes: of the base model's sites.
    """
    table = key_table(shapes)
    parts: dict[str, dict[Leaf, str]] = {}
    for key in file.entries:
        stem, leaf = split(key)
        if leaf not in {Leaf.DOWN, Leaf.UP, Leaf.ALPHA, Leaf.DIFFERENCE} and not key.startswith("bundle_emb."):
            return None
        if leaf is not Leaf.ALPHA and not _is_readable(file.entries[key]):
            return None
        parts.setdefault(stem, {})[leaf] = key
    inside = outside = 0.0
    for stem, found in parts.items():
        if (square := _square(file, found)) is None:
            return None
        if table.site(stem) is None:
            outside += square
        else:
            inside += square
    share = (outside / (inside + outside)) ** 0.5 if inside + outside else math.nan
    return share if math.isfinite(share) else None


def _is_readable(entry: Entry) -> bool:
    return entry.dtype in FLOATS and math.prod(entry.shape) <= _LARGEST


def _square(file: TensorFile, parts: Mapping[Leaf, str]) -> float | None:
    """The squared norm of the change of one layer; None without both factors."""
    if Leaf.DIFFERENCE in parts:
        return _sum(file.read(parts[Leaf.DIFFERENCE]).astype(np.float64) ** 2)
    if Leaf.DOWN not in parts and Leaf.UP not in parts:
        return 0.0
    if Leaf.DOWN not in parts or Leaf.UP not in parts:
        return None
    down, up = (file.read(parts[leaf]).astype(np.float64) for leaf in (Leaf.DOWN, Leaf.UP))
    if not down.size or not up.size:
        return 0.0
    down, up = down.reshape(len(down), -1), up.reshape(len(up), -1)
    rank, size = len(down), len(up) * down.shape[1]
    if up.shape[1] != rank:
        return None
    scale = file.number(parts[Leaf.ALPHA]) / rank if Leaf.ALPHA in parts else 1.0
    # of two ways to compute ‖up · down‖² the one with the smaller matrix, so that memory is bounded by the file
    square = _sum((up @ down) ** 2) if size < rank**2 else _sum((up.T @ up) * (down @ down.T))
    return scale**2 * square


def _sum(values: NDArray[np.float64]) -> float:
    return float(values.sum())
