"""Images that are nearly equal: each counts in training, so their view of the concept counts twice.

Owns this comparison; must not know files or models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

MAX_BITS = 4
"""Bits of 64 in which the gradients of two nearly equal images may differ."""

MAX_LEVELS = 8.0
"""Mean difference of their thumbnails, of 255 levels: flat images have equal gradients by chance."""


def near_duplicates(images: Mapping[str, NDArray[np.uint8]]) -> tuple[tuple[str, str], ...]:
    """Find each image to which an earlier one is nearly equal (dHash, and the difference of thumbnails).

    Args:
        images: pixels (height, width, 3) by name.

    Returns:
        Its name, and that of the earlier one.
    """
    import numpy as np

    names, found = list(images), []
    thumbnails = np.stack([_thumbnail(pixels) for pixels in images.values()])  # (n, 8, 9)
    hashes = (thumbnails[:, :, 1:] > thumbnails[:, :, :-1]).reshape(len(names), 64)
    for i in range(1, len(names)):
        bits = (hashes[:i] != hashes[i]).sum(axis=1)
        levels = np.abs(thumbnails[:i] - thumbnails[i]).mean(axis=(1, 2))
        if len(near := np.flatnonzero((bits <= MAX_BITS) & (levels <= MAX_LEVELS))):
            found.append((names[i], names[near[0]]))
    return tuple(found)


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.float32)
