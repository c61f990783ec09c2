"""The contact sheet of the demo: what is on it follows from images and measurements.

Owns its wording and the comparison of images; must not know models or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.report.contact_sheet import SheetRow
    from cnsctl.results import Verified

    Pixels = NDArray[np.uint8]

FADED = 0.25
"""Contrast of bytes that are equal, in an image of differences."""

GAP = 8
"""The gap between groups is this part of an image."""

CHANGED = (214, 40, 40)
"""Colour of pixels that differ."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """Some concepts: their training images, and the images with their class words and with themselves."""

    shown: Sequence[str]
    class_words: Sequence[str]
    error_removed: float | None
    """After the training, if it is one concept."""
    training: Sequence[Pixels]
    base: Sequence[Pixels]
    base_prompts: Sequence[str]
    own: Sequence[Pixels]
    own_prompts: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """Images of the first concept, generated before and after the second one was trained."""

    before: Sequence[Pixels]
    after: Sequence[Pixels]

    @property
    def n_bytes(self) -> int:
        """Bytes of all pixels."""
        return sum(image.size for image in self.before)

    @property
    def differ(self) -> list[int]:
        """Of each image: how many bytes differ; all, if its size does."""
        return [
            int((a != b).sum()) if a.shape == b.shape else a.size for a, b in zip(self.before, self.after, strict=True)
        ]


def laid_out(rows: Sequence[Row], compared: Compared | None, proved: Sequence[Verified]) -> list[SheetRow]:
    """The rows of the sheet."""
    found = [_concepts(row) for row in rows]
    return found if compared is None else [*found, _unchanged(rows, compared, proved)]


def sheet(rows: Sequence[SheetRow]) -> tuple[Pixels, bytes]:
    """The sheet as pixels and as the bytes of a PNG."""
    from io import BytesIO

    import numpy as np

    from cnsctl.report.contact_sheet import contact_sheet

    image = contact_sheet(rows, title="cnsctl demo", labels_above=True)
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return np.asarray(image), file.getvalue()


def strips(rows: Sequence[SheetRow]) -> tuple[tuple[str, Pixels], ...]:
    """Each row as a line of text, and its images side by side with white between groups."""
    import numpy as np

    found = []
    for row in rows:
        parts: list[Pixels] = []
        for group in row.groups:
            gap = np.full((group.images[0].shape[0], group.images[0].shape[1] // GAP, 3), 255, np.uint8)
            parts += [gap, *group.images] if parts else group.images
        captions = " | ".join(group.caption for group in row.groups)
        found.append((f"{row.label}  ({captions})", np.concatenate(parts, axis=1)))
    return tuple(found)


def _concepts(row: Row) -> SheetRow:
    from cnsctl.report.contact_sheet import SheetGroup, SheetRow

    names = " and ".join(f"<{name}>" for name in row.shown)
    measured = "" if row.error_removed is None else f": error removed {row.error_removed:.1f} %"
    return SheetRow(
        label=f"{names}{measured}",
        groups=[
            SheetGroup(caption="training images", images=row.training, texts=_trained(row)),
            SheetGroup(caption="base model", images=row.base, texts=row.base_prompts),
            SheetGroup(caption="cnsctl, same seeds", images=row.own, texts=row.own_prompts),
        ],
    )


def _trained(row: Row) -> list[str]:
    """Which training image it is."""
    if len(row.shown) > 1:
        return [f"<{name}>, a {word}" for name, word in zip(row.shown, row.class_words, strict=True)]
    return [f"<{row.shown[0]}>, image {n}" for n in range(1, len(row.training) + 1)]


def _unchanged(rows: Sequence[Row], compared: Compared, proved: Sequence[Verified]) -> SheetRow:
    from cnsctl.report.contact_sheet import SheetGroup, SheetRow

    first, second = (row.shown[0] for row in rows[:2])
    prompts = rows[0].own_prompts
    differ = [f"{n:,} of {a.size:,} bytes differ" for n, a in zip(compared.differ, compared.before, strict=True)]
    return SheetRow(
        label=f"<{first}> before and after <{second}> was trained; verify: {verdict(proved)}",
        groups=[
            SheetGroup(caption=f"before <{second}>", images=compared.before, texts=prompts),
            SheetGroup(caption=f"after <{second}>, same seeds", images=compared.after, texts=prompts),
            SheetGroup(
                caption="difference, in red",
                images=[_difference(a, b) for a, b in zip(compared.before, compared.after, strict=True)],
                texts=differ,
            ),
        ],
    )


def verdict(proved: Sequence[Verified]) -> str:
    """`<dog> and <hat> unchanged`, or which have changed."""
    changed = [f"<{row.name}>" for row in proved if not row.unchanged]
    if changed:
        return f"{' and '.join(changed)} changed"
    return f"{' and '.join(f'<{row.name}>' for row in proved)} unchanged"


def _difference(before: Pixels, after: Pixels) -> Pixels:
    """The later image faded, with the pixels in red that differ."""
    import numpy as np

    shown: Pixels = (255 - FADED * (255 - after.mean(axis=2, keepdims=True))).astype(np.uint8).repeat(3, axis=2)
    differs = (before != after).any(axis=2) if before.shape == after.shape else np.ones(after.shape[:2], bool)
    shown[differs] = CHANGED
    return shown
