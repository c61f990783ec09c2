"""How alike pictures and texts are, by the features of a picture-and-text model (CLIP, DINO).

Owns cosines and what the field makes of them; must not know which model gave the features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray


def clip_i(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Mean cosine over all pairs of two sets of pictures (CLIP-I, DINO-I: DreamBooth, arXiv 2208.12242, sec. 4.2).

    A set compared with itself counts each picture's pair with itself too.

    Args:
        a: features of one set, (n, d).
        b: features of the other, (m, d).

    Returns:
        The raw cosine, -1 to 1.
    """
    one, other = _directions(a, "a"), _directions(b, "b")
    _same_width(one, other)
    return float((one @ other.T).mean())


def likeness_within(features: NDArray[np.floating]) -> float:
    """Mean cosine of a set's pictures with each other, each pair once: real against real; (n, d) with n ≥ 2."""
    rows = _directions(features, "features")
    if len(rows) < 2:
        raise ValueError("one picture makes no pair")
    return float((rows @ rows.T)[np.triu_indices(len(rows), 1)].mean())


def clip_t(images: NDArray[np.floating], texts: NDArray[np.floating]) -> float:
    """Mean cosine of each picture with its own text, both (n, d): the raw cosine, -1 to 1."""
    return float(row_cosines(images, texts).mean())


def row_cosines(images: NDArray[np.floating], texts: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of each row with the row at the same place, (n, d) and (n, d) to (n,)."""
    one, other = _directions(images, "images"), _directions(texts, "texts")
    if one.shape != other.shape:
        raise ValueError(f"each picture takes its text: features {one.shape} and {other.shape} differ")
    cosines: NDArray[np.float64] = (one * other).sum(axis=1)
    return cosines


def nearest(features: NDArray[np.floating], sets: Mapping[str, NDArray[np.floating]]) -> list[str]:
    """Name for each picture the set that it is most like, by the mean cosine with the set's members.

    Args:
        features: of the pictures, (n, d).
        sets: features by name, (m, d) each; m may differ. Of equals the first by name wins.
    """
    if not sets:
        raise ValueError("there is no set to be nearest to")
    one, names = _directions(features, "features"), sorted(sets)
    likeness = []
    for name in names:
        other = _directions(sets[name], name)
        _same_width(one, other)
        likeness.append((one @ other.T).mean(axis=1))
    return [names[at] for at in np.argmax(likeness, axis=0)]


def accuracy(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Share of the names found that are those wanted, 0 to 1."""
    if not found or len(found) != len(wanted):
        raise ValueError(f"{len(found)} names found cannot be held against {len(wanted)}")
    return sum(f == w for f, w in zip(found, wanted, strict=True)) / len(found)


def _directions(features: NDArray[np.floating], what: str) -> NDArray[np.float64]:
    """Scale rows to length 1, in float64: features come in half precision too."""
    rows = _finite(features, what)
    if rows.ndim != 2:
        raise ValueError(f"features '{what}' take the shape (n, d), not {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"features '{what}' have a row of zeros, which has no direction")
    directions: NDArray[np.float64] = rows / lengths
    return directions


def _finite(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"'{what}' is empty, {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"'{what}' has values that are not finite")
    return array


def _same_width(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of {a.shape[1]} and {b.shape[1]} numbers come from different models")
