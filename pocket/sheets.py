"""A page of small pictures, each with its text below it.

Owns page layout; must not know where pictures come from.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

LINES = 4
LINE_HEIGHT = 11
GAP = 6
CHARACTERS = 25
"""Per line of text below a picture of 128 pixels."""


def page(cells: Sequence[tuple[Image.Image, str]], *, columns: int = 8) -> Image.Image:
    """Lay equally large pictures out in rows, with up to four lines of text below each.

    Args:
        cells: pictures and texts, row by row.
        columns: pictures per row.
    """
    width, height = cells[0][0].size
    cell_width, cell_height = width + GAP, height + LINES * LINE_HEIGHT + GAP
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (min(columns, len(cells)) * cell_width, rows * cell_height), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=9)
    for i, (picture, text) in enumerate(cells):
        x, y = i % columns * cell_width, i // columns * cell_height
        sheet.paste(picture, (x, y))
        for j, line in enumerate(textwrap.wrap(text, CHARACTERS * width // 128)[:LINES]):
            draw.text((x + 2, y + height + 1 + j * LINE_HEIGHT), line, fill=(40, 40, 40), font=font)
    return sheet
