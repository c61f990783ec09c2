"""Pages for a browser: one HTML file with everything in it, which needs no network and no script.

Jinja escapes every value. Images are part of the file, as PNG or JPEG.

Owns the layout of pages; must not know what the figures mean or where a page is saved.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jinja2
    import numpy as np
    from numpy.typing import NDArray

TEMPLATES = Path(__file__).parent / "templates"

THUMBNAIL = 256
"""Longest side of an image on a page, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image on a page."""

    data: str
    """As a `data:` address."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    alt: str
    """What it shows, for a reader who cannot see it."""
    caption: str = ""
    """Below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Images in one line."""

    title: str
    """Before them."""
    pictures: Sequence[Picture]
    """From left to right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with its name."""

    name: str
    """What is measured."""
    value: str
    """With its unit and interval."""
    meaning: str = ""
    """What it is compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a heat map."""

    text: str
    """Of the value."""
    heat: float
    """From 0 to 1: how strong its colour is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """A table whose cells are coloured by their values."""

    title: str
    """Above it."""
    note: str
    """How to read it."""
    columns: Sequence[str]
    """Names."""
    rows: Sequence[tuple[str, Sequence[Cell]]]
    """Name and cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A share, as a bar."""

    name: str
    """What it is a share of."""
    share: float
    """From 0 to 1."""
    text: str
    """The value in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One concept on a page."""

    name: str
    """Its heading, also the target of links."""
    subtitle: str
    """One line."""
    verdict: str = ""
    """One sentence."""
    figures: Sequence[Figure] = ()
    strips: Sequence[Strip] = ()
    lines: Sequence[str] = ()
    """Commands to type."""
    notes: Sequence[str] = ()
    """More facts, a line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole page."""

    title: str
    """Heading and name of the page."""
    subtitle: str
    """One line."""
    figures: Sequence[Figure] = ()
    """About the store as a whole."""
    sections: Sequence[Section] = ()
    maps: Sequence[HeatMap] = ()
    bars: Sequence[Bar] = field(default=())
    bars_title: str = ""
    """Above the bars."""
    footer: str = ""
    """What made the page."""


def html(page: Page) -> str:
    """The page as HTML; equal pages give equal text."""
    return _template().render(page=page)


def picture(pixels: NDArray[np.uint8], *, alt: str, caption: str = "", side: int = THUMBNAIL) -> Picture:
    """An image from its pixels (h, w, 3), made smaller if its longest side is more than `side` pixels."""
    return _picture(Image.fromarray(pixels), alt=alt, caption=caption, side=side)


def picture_of(data: bytes, *, alt: str, caption: str = "", side: int = THUMBNAIL) -> Picture:
    """An image from a file's bytes (PNG).

    Raises:
        OSError, ValueError: it cannot be read.
    """
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        return _picture(image.convert("RGB"), alt=alt, caption=caption, side=side)


def _picture(image: Image.Image, *, alt: str, caption: str, side: int) -> Picture:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    png, jpeg = BytesIO(), BytesIO()
    image.save(png, "PNG", optimize=True)
    image.save(jpeg, "JPEG", quality=90, subsampling=0)
    kind, kept = ("png", png) if png.tell() <= jpeg.tell() else ("jpeg", jpeg)  # drawings are smaller as PNG
    data = f"data:image/{kind};base64,{b64encode(kept.getvalue()).decode('ascii')}"
    return Picture(data=data, width=image.width, height=image.height, alt=alt, caption=caption)


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
