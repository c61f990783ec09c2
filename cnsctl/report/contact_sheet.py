"""Contact sheets: one image of labelled rows of images.

Owns the layout; must not know what the images show or where the sheet is saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_PAPER = (252, 252, 250)
_INK = (32, 33, 36)
_SOFT = (98, 102, 108)
_RULE = (226, 227, 224)

_LABEL_LINES = 4
_CAPTION_LINES = 2
_TEXT_LINES = 4

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SheetGroup:
    """Images under one caption. A group without images is an empty space."""

    caption: str
    """Above the images, at most two lines."""
    images: Sequence[NDArray[np.uint8]]
    """(h, w, 3) each, RGB; each is fitted into a square cell."""
    texts: Sequence[str] = ()
    """Below each image, at most four lines: its prompt."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SheetRow:
    """One row of the sheet. The n-th groups of all rows form a column."""

    label: str
    """At the left, at most four lines; or above."""
    groups: Sequence[SheetGroup]
    """From left to right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Lengths in pixels, all proportional to the cell."""

    cell: int
    counts: tuple[int, ...]
    """Images per column."""
    labels_above: bool
    """Labels are headings, and take no column."""

    @property
    def unit(self) -> int:
        """The smallest distance; all others are multiples."""
        return max(1, self.cell // 32)

    @property
    def margin(self) -> int:
        return 8 * self.unit

    @property
    def label_width(self) -> int:
        return self.width - 2 * self.margin if self.labels_above else round(1.25 * self.cell)

    @property
    def gap(self) -> int:
        """Between two columns."""
        return (4 if self.labels_above else 8) * self.unit

    @property
    def pitch(self) -> int:
        """From one image to the next."""
        return self.cell + self.unit

    @property
    def lefts(self) -> tuple[int, ...]:
        """Left edge of each column, and of one more after the last."""
        edges = [self.margin if self.labels_above else self.margin + self.label_width + 4 * self.unit]
        for count in self.counts:
            edges.append(edges[-1] + self.width_of(count) + self.gap)
        return tuple(edges)

    @property
    def width(self) -> int:
        return self.lefts[-1] - self.gap + self.margin

    def width_of(self, count: int) -> int:
        return count * self.pitch - self.unit

    def font(self, share: float) -> _Font:
        return ImageFont.load_default(size=max(9, round(share * self.cell)))


def contact_sheet(
    rows: Sequence[SheetRow], *, cell: int = 128, title: str | None = None, labels_above: bool = False
) -> Image.Image:
    """Lay out rows of images on a light background, with aligned columns.

    Args:
        rows: from top to bottom.
        cell: height and width of each image on the sheet, in pixels.
        title: above the rows.
        labels_above: write the label of a row above it, not at its left: the sheet is narrower.

    Raises:
        ValueError: the list of rows is empty, or the cells are too small for captions.
    """
    if not rows or cell < 32:
        raise ValueError(f"a sheet needs rows, and cells of at least 32 pixels: {len(rows)} rows, {cell} pixels")
    columns = zip_longest(*(row.groups for row in rows))
    counts = [max(len(group.images) for group in column if group is not None) for column in columns]
    grid = _Grid(cell=cell, counts=tuple(max(1, count) for count in counts), labels_above=labels_above)
    strips = [] if title is None else [_title_strip(title, grid)]
    for at, row in enumerate(rows):
        strips.append(_row_strip(row, grid))
        if at < len(rows) - 1:
            strips.append(_rule_strip(grid))
    return _stacked(strips, grid)


def _title_strip(title: str, grid: _Grid) -> Image.Image:
    font = grid.font(0.2)
    lines = _wrapped(title, font, grid.width - 2 * grid.margin, 2)
    strip = Image.new("RGB", (grid.width, _height(lines, font) + 6 * grid.unit), _PAPER)
    _write(strip, (grid.margin, 0), lines, font, _INK)
    return strip


def _rule_strip(grid: _Grid) -> Image.Image:
    strip = Image.new("RGB", (grid.width, 8 * grid.unit), _PAPER)
    y = strip.height // 2
    ImageDraw.Draw(strip).line((grid.margin, y, grid.width - grid.margin, y), fill=_RULE, width=max(1, grid.unit // 4))
    return strip


def _row_strip(row: SheetRow, grid: _Grid) -> Image.Image:
    """Render the captions on a common baseline, the images and their texts below, and the label beside or above."""
    label_font, caption_font, text_font = grid.font(0.15), grid.font(0.14), grid.font(0.1)
    captions = [
        _wrapped(group.caption, caption_font, grid.width_of(count), _CAPTION_LINES)
        for group, count in zip(row.groups, grid.counts, strict=False)
    ]
    head = max((_height(lines, caption_font) for lines in captions), default=0)
    label = _wrapped(row.label, label_font, grid.label_width, _LABEL_LINES)
    if grid.labels_above:
        head += _height(label, label_font) + (grid.unit if label else 0)
    top = head + grid.unit if head else 0
    texts = [[_wrapped(text, text_font, grid.cell, _TEXT_LINES) for text in group.texts] for group in row.groups]
    foot = max((_height(lines, text_font) for of_group in texts for lines in of_group), default=0)
    strip = Image.new("RGB", (grid.width, top + grid.cell + (foot + grid.unit if foot else 0)), _PAPER)
    beside = top + (grid.cell - _height(label, label_font)) // 2
    _write(strip, (grid.margin, 0 if grid.labels_above else beside), label, label_font, _INK)
    for group, lines, below, left in zip(row.groups, captions, texts, grid.lefts, strict=False):
        _write(strip, (left, head - _height(lines, caption_font)), lines, caption_font, _SOFT)
        for at, pixels in enumerate(group.images):
            strip.paste(_in_cell(pixels, grid.cell), (left + at * grid.pitch, top))
        for at, text in enumerate(below):
            _write(strip, (left + at * grid.pitch, top + grid.cell + grid.unit), text, text_font, _SOFT)
    return strip


def _stacked(strips: Sequence[Image.Image], grid: _Grid) -> Image.Image:
    sheet = Image.new("RGB", (grid.width, sum(s.height for s in strips) + 2 * grid.margin), _PAPER)
    y = grid.margin
    for strip in strips:
        sheet.paste(strip, (0, y))
        y += strip.height
    return sheet


def _in_cell(pixels: NDArray[np.uint8], cell: int) -> Image.Image:
    """Fit a whole image into one cell, centred on the background."""
    image = Image.fromarray(pixels)
    scale = cell / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    square = Image.new("RGB", (cell, cell), _PAPER)
    fitted = image.resize(size, Image.Resampling.LANCZOS)
    square.paste(fitted, ((cell - fitted.width) // 2, (cell - fitted.height) // 2))
    return square


def _wrapped(text: str, font: _Font, width: int, n_lines: int) -> list[str]:
    """Wrap a text into at most n lines, breaking only words that are too long; end a truncated text with '…'."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for char in word:
            if font.getlength(lines[-1] + char) > width:
                lines.append("")
            lines[-1] += char
    kept = [line for line in lines if line][:n_lines]
    if len(lines) > n_lines:
        while kept[-1] and font.getlength(kept[-1] + "…") > width:
            kept[-1] = kept[-1][:-1].rstrip()
        kept[-1] += "…"
    return kept


def _height(lines: Sequence[str], font: _Font) -> int:
    return len(lines) * _line_height(font)


def _line_height(font: _Font) -> int:
    return round(1.3 * (font.size if isinstance(font, ImageFont.FreeTypeFont) else 11))


def _write(
    strip: Image.Image, at: tuple[int, int], lines: Sequence[str], font: _Font, colour: tuple[int, int, int]
) -> None:
    draw = ImageDraw.Draw(strip)
    for n, line in enumerate(lines):
        draw.text((at[0], at[1] + n * _line_height(font)), line, fill=colour, font=font)
