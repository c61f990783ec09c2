"""One sheet of pictures per question: the same prompts and seeds for every row of its table.

Owns what stands where; must not know how anything is learned.
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
    """Draw what rows show, seed 0 each, below the pictures it was learned from; None where no row shows anything."""
    found = []
    for row in rows:
        if row.shown is not None:
            overlay = row.shown.overlay
            requests = [Request(prompt=parse(text, overlay.concepts), seed=0) for text in row.shown.prompts]
            found.append(_strip(row.name, bench.drawn(overlay, requests)))
    if not found:
        return None
    real = _learned_from(rows)
    return contact_sheet([*([_strip("learned from", real)] if real else []), *found], title=question)


def _strip(label: str, pictures: Sequence[NDArray[np.uint8]]) -> SheetRow:
    return SheetRow(label=label, groups=[SheetGroup(caption="", images=pictures)])


def _learned_from(rows: Sequence[Row]) -> list[NDArray[np.uint8]]:
    """Pictures of the concepts that the first row with any names, as many as a row has."""
    for row in rows:
        if row.shown is not None:
            named = [m.name for text in row.shown.prompts for m in parse(text, row.shown.overlay.concepts).mentions]
            if names := list(dict.fromkeys(named)):
                return [p for name in names for p in training_pixels(name)[: max(1, IN_A_ROW // len(names))]]
    return []
