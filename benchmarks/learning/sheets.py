"""One sheet of pictures per question: the same prompts and seeds for every row of its table.

Owns what stands where; must not know how anything is learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.data.prompts import parse
from cnsctl.data.sheet import SheetGroup, SheetRow, contact_sheet
from cnsctl.engine.generate import Request, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from benchmarks.learning.bench import Bench
    from benchmarks.learning.rows import Row


def sheet(bench: Bench, question: str, rows: Sequence[Row]) -> Image.Image | None:
    """Draw what rows show, seed 0 each; None where no row shows anything."""
    found = []
    for row in rows:
        if row.shown is not None:
            overlay = row.shown.overlay
            requests = [Request(prompt=parse(text, overlay.concepts), seed=0) for text in row.shown.prompts]
            drawn = [p for _, p in draw(bench.base, overlay, requests, bench.base.draw_defaults, batch=len(requests))]
            found.append(SheetRow(label=row.name, groups=[SheetGroup(caption="", pictures=drawn)]))
    return contact_sheet(found, title=question) if found else None
