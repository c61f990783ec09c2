"""Aspect-ratio buckets: the image sizes that training uses, and the part of an image that fits into one of them.

Owns this geometry; must not know pixels, files or models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.concept import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

MULTIPLE = 64
"""Widths and heights are multiples of it, as in the field; smaller base models have a smaller multiple."""

LONGEST = 4.0
"""Largest ratio of a bucket's sides. Of a longer image the ends are cut off."""

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How an image goes into its bucket: the middle part of the bucket's shape, resized without distortion."""

    frame: Frame
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of the part that is kept, in the original image."""

    @property
    def cut(self) -> float:
        """Share of the image that is cut off."""
        (height, width), (left, top, right, bottom) = self.frame.original, self.box
        return 1 - (right - left) * (bottom - top) / (width * height)


def multiple_of(resolution: int, unit: int) -> int:
    """What the sides of a base model's buckets are multiples of: 64, or less below a resolution of 512.

    Args:
        resolution: the square root of a bucket's area, in pixels.
        unit: pixels that the denoiser's coarsest level sees as one; sides must be multiples of it.
    """
    eighth = math.ceil(resolution / 8 / unit) * unit
    return max(unit, min(MULTIPLE // unit * unit, eighth))


def bucket_sizes(resolution: int, multiple: int) -> list[Size]:
    """The square, and for each other width the largest height that does not exceed the square's area."""
    area, sizes = resolution * resolution, {(resolution, resolution)}
    for short in range(multiple, resolution, multiple):
        long = area // short // multiple * multiple
        if short < long <= LONGEST * short:
            sizes |= {(short, long), (long, short)}
    return sorted(sizes)


def fit(original: Size, sizes: Sequence[Size]) -> Fit:
    """Fit an image into the bucket that cuts off least of it; of equal ones the largest."""
    height, width = original
    found = min(sizes, key=lambda size: (_cut(original, size), -size[0] * size[1], size))
    if height * found[1] >= width * found[0]:  # the ends of the height are cut off, if anything
        scale, kept_height, kept_width = found[1] / width, width * found[0] / found[1], float(width)
    else:
        scale, kept_height, kept_width = found[0] / height, float(height), height * found[1] / found[0]
    top, left = (height - kept_height) / 2, (width - kept_width) / 2
    return Fit(
        frame=Frame(original=original, crop=(round(top * scale), round(left * scale)), target=found),
        box=(left, top, left + kept_width, top + kept_height),
    )


def _cut(original: Size, size: Size) -> float:
    """Share that is cut off, rounded, so that equal shapes of other sizes are equal."""
    ratio = original[0] * size[1] / (original[1] * size[0])
    return round(1 - min(ratio, 1 / ratio), 9)
