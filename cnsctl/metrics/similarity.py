"""Similarity of images and texts, by the features of a model such as CLIP or DINO.

Owns the cosines and the scores made of them; must not know which model computed the features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

ODD = 1.4
"""How many times as far from all others as usual an image is that does not belong to them."""


def clip_i(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Mean cosine over all pairs of two sets of images (CLIP-I, DINO-I: DreamBooth, arXiv 2208.12242, sec. 4.2).

    If a set is compared with itself, the pairs of an image with itself count too.

    Args:
        a: features of one set, (n, d).
        b: features of the other set, (m, d).

    Returns:
        The raw cosine, -1 to 1.
    """
    one, other = _directions(a, "a"), _directions(b, "b")
    _same_width(one, other)
    return float((one @ other.T).mean())


def likeness_within(features: NDArray[np.floating]) -> float:
    """Mean cosine of the images of a set with each other, each pair once: real against real; (n, d) with n ≥ 2."""
    rows = _directions(features, "features")
    if len(rows) < 2:
        raise ValueError("a pair needs two images")
    return float((rows @ rows.T)[np.triu_indices(len(rows), 1)].mean())


def clip_t(images: NDArray[np.floating], texts: NDArray[np.floating]) -> float:
    """Mean cosine of each image with its own text, both (n, d): the raw cosine, -1 to 1."""
    return float(row_cosines(images, texts).mean())


def row_cosines(images: NDArray[np.floating], texts: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of each row with the row of the same number: (n, d) and (n, d) → (n,)."""
    one, other = _directions(images, "images"), _directions(texts, "texts")
    if one.shape != other.shape:
        raise ValueError(f"each image needs one text: features {one.shape} and {other.shape} differ")
    cosines: NDArray[np.float64] = (one * other).sum(axis=1)
    return cosines


def nearest(features: NDArray[np.floating], sets: Mapping[str, NDArray[np.floating]]) -> list[str]:
    """For each image the name of the most similar set, by the mean cosine with the set's members.

    Args:
        features: of the images, (n, d).
        sets: features by name, (m, d) each; m may differ. Of equal sets the first by name is taken.
    """
    if not sets:
        raise ValueError("sets must not be empty")
    one, names = _directions(features, "features"), sorted(sets)
    likeness = []
    for name in names:
        other = _directions(sets[name], name)
        _same_width(one, other)
        likeness.append((one @ other.T).mean(axis=1))
    return [names[at] for at in np.argmax(likeness, axis=0)]


def accuracy(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Share of the names found that equal the names wanted, 0 to 1."""
    if not found or len(found) != len(wanted):
        raise ValueError(f"cannot compare {len(found)} names with {len(wanted)}")
    return sum(f == w for f, w in zip(found, wanted, strict=True)) / len(found)


def odd_one_out(features: NDArray[np.floating]) -> int | None:
    """The image that does not belong to a set, by leaving each out, or None; (n, d) with n ≥ 5, else always None.

    It is the least similar to all others, and at least 1.4 times as far from them (1 - mean cosine) as any other image is
    from the rest. On pocket's examples an image of another concept is 1.45 to 2.7 times as far, unless both are animals,
    and the farthest image of one concept 1.05 times.
    """
    rows = _directions(features, "features")
    if len(rows) < 5:
        return None
    far = 1 - rows @ rows.T
    odd = int(far.sum(axis=1).argmax())
    rest = np.delete(np.delete(far, odd, axis=0), odd, axis=1)
    distance, usual = far[odd].sum() / (len(rows) - 1), rest.sum(axis=1).max() / (len(rows) - 2)
    return odd if distance >= ODD * usual and distance > 1e-6 else None


def _directions(features: NDArray[np.floating], what: str) -> NDArray[np.float64]:
    """Scale rows to length 1, in float64: features come in half precision too."""
    rows = _finite(features, what)
    if rows.ndim != 2:
        raise ValueError(f"features '{what}' must have the shape (n, d), not {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"features '{what}' have a row of zeros, which does not have a direction")
    directions: NDArray[np.float64] = rows / lengths
    return directions


def _finite(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"'{what}' is empty, {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"'{what}' contains NaN or Inf")
    return array


def _same_width(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of {a.shape[1]} and {b.shape[1]} numbers come from different models")
