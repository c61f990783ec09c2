"""What varies between pictures of one prompt: place, proportions and shade should, colours should not.

Owns how a subject is cut out of a plain background and measured; must not know who drew it.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pocket.world.captions import Layout, Said, Telling
from pocket.world.colours import COLOURS, NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from PIL import Image

SEEDS = 10
"""Pictures per prompt."""

BORDER = 6
"""Rows below the upper edge, and columns at both sides, that are taken for background."""

FOREGROUND = 28
"""Levels in any channel by which a pixel differs from the background."""

_PALETTE = np.array(list(COLOURS.values()), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A subject, measured."""

    x: float
    """Column of its middle, pixels."""
    shape: float
    """Width of its box divided by the height."""
    size: float
    """Share of the picture that it covers."""
    shade: float
    """Mean level (0..255) of its pixels of the colour that was said; nan without any."""
    colour: str
    """Name of the colour that most of it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variety:
    """Standard deviations over the seeds of a prompt, averaged over prompts."""

    place: float
    """Pixels."""
    shape: float
    """Percent of the mean."""
    size: float
    """Percent of the mean."""
    shade: float
    """Levels."""
    colour_kept: float
    """Share of pictures in which most of the subject has the colour that was said."""


def variety_prompts() -> tuple[Telling, ...]:
    """Single things of a said colour on plain backgrounds of another one."""
    told = (
        ("dog", "blue", "a white"),
        ("car", "red", "a gray"),
        ("cat", "purple", "a yellow"),
        ("robot", "orange", "a blue"),
        ("frog", "green", "a pink"),
    )
    return tuple(
        Telling(layout=Layout.ALONE, place=f"on {ground} background", subject=Said(word=word, main=colour))
        for word, colour, ground in told
    )


def cut(picture: Image.Image, said: str) -> Cut | None:
    """Measure the subject before its plain background, or None when nothing stands out.

    Args:
        picture: RGB.
        said: the name of its main colour.
    """
    pixels = np.asarray(picture.convert("RGB")).astype(np.float32)
    mask = np.abs(pixels - _background(pixels)).max(-1) > FOREGROUND
    rows, columns = np.nonzero(mask)
    if len(rows) < mask.size // 100:
        return None
    subject = pixels[mask]
    nearest = np.linalg.norm(subject[:, None] - _PALETTE, axis=-1).argmin(1)
    of_colour = subject[nearest == NAMES.index(said)]
    # the outermost hundredth is left out, so that one stray pixel does not make a box
    (left, right), (top, bottom) = np.percentile(columns, (1, 99)), np.percentile(rows, (1, 99))
    return Cut(
        x=float((left + right) / 2),
        shape=float((right - left + 1) / (bottom - top + 1)),
        size=len(rows) / mask.size,
        shade=float(of_colour.mean()) if len(of_colour) else float("nan"),
        colour=NAMES[int(np.bincount(nearest, minlength=len(NAMES)).argmax())],
    )


def variety(groups: Iterable[tuple[str, Sequence[Image.Image]]]) -> Variety:
    """Measure groups of pictures, each of one prompt, with the colour that it says."""
    spreads: list[tuple[float, float, float, float]] = []
    kept: list[bool] = []
    for said, pictures in groups:
        cuts = [cut(picture, said) for picture in pictures]
        kept += [c is not None and c.colour == said for c in cuts]
        found = [c for c in cuts if c is not None]
        if len(found) > 1:
            spreads.append(_spread(found))
    place, shape, size, shade = zip(*spreads, strict=True) if spreads else ((float("nan"),),) * 4
    return Variety(
        place=statistics.fmean(place),
        shape=100 * statistics.fmean(shape),
        size=100 * statistics.fmean(size),
        shade=statistics.fmean(shade),
        colour_kept=sum(kept) / len(kept),
    )


def _background(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median colour along the upper and lateral edges: subjects stand below and between them."""
    edges = [pixels[:BORDER], pixels[:, :BORDER], pixels[:, -BORDER:]]
    median: NDArray[np.float32] = np.median(np.concatenate([e.reshape(-1, 3) for e in edges]), axis=0)
    return median


def _spread(cuts: list[Cut]) -> tuple[float, float, float, float]:
    """Standard deviations of place (pixels), shape and size (relative), shade (levels)."""
    shapes, sizes = [c.shape for c in cuts], [c.size for c in cuts]
    shades = [c.shade for c in cuts if c.shade == c.shade]
    return (
        statistics.pstdev([c.x for c in cuts]),
        statistics.pstdev(shapes) / statistics.fmean(shapes),
        statistics.pstdev(sizes) / statistics.fmean(sizes),
        statistics.pstdev(shades) if shades else 0.0,
    )
