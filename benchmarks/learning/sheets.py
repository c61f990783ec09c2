"""One sheet of images per question: the same prompts and seeds for every row of its table.

Owns the layout; must not know how concepts are trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.learning.bench import training_pixels
from benchmarks.learning.rows import IN_A_ROW
from cnsctl.data.prompt_grammar import parse
from cnsctl.engine.generate import Request
from cnsctl.report.contact_sheet import SheetGroup, SheetRow, contact_sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from benchmarks.learning.bench import Bench
    from benchmarks.learning.rows import Row


def sheet(bench: Bench, question: str, rows: Sequence[Row]) -> Image.Image | None:
    """The images of the rows, seed 0 each, below the training images; None if no row has images."""
    found = []
    for row in rows:
        if row.shown is not None:
            overlay = row.shown.overlay
            requests = [Request(prompt=parse(text, overlay.concepts), seed=0) for text in row.shown.prompts]
            found.append(_strip(row.name, bench.images(overlay, requests)))
    if not found:
        return None
    real = _trained_on(rows)
    return contact_sheet([*([_strip("training images", real)] if real else []), *found], title=question)


def _strip(label: str, images: Sequence[NDArray[np.uint8]]) -> SheetRow:
    return SheetRow(label=label, groups=[SheetGroup(caption="", images=images)])


def _trained_on(rows: Sequence[Row]) -> list[NDArray[np.uint8]]:
    """Training images of the concepts in the first row that names any, as many as a row has."""
    for row in rows:
        if row.shown is not None:
            named = [m.name for text in row.shown.prompts for m in parse(text, row.shown.overlay.concepts).mentions]
            if names := list(dict.fromkeys(named)):
                return [p for name in names for p in training_pixels(name)[: max(1, IN_A_ROW // len(names))]]
    return []
