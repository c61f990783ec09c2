"""One contact sheet of all images of a call: `gen --sheet`, `gen --compare`.

Owns which image is where on the sheet; must not know models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cnsctl.app.made import SHEET
from cnsctl.app.output_paths import check_folder, exists, keep
from cnsctl.data.prompt_grammar import slug
from cnsctl.errors import CnsctlError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.app.generate_request import GenerateRequest
    from cnsctl.app.output_paths import Planned
    from cnsctl.concept import Prompt
    from cnsctl.report.contact_sheet import SheetRow

T = TypeVar("T")

CELL = 256
"""Side of an image on the sheet, pixels."""

MAX_IMAGES = 500
"""On one sheet; they are kept in memory."""

COLUMNS = 6
"""Images beside each other, at most."""

SEEDS = 3
"""Of a comparison, beside each other."""


def sheet_path(request: GenerateRequest, prompts: Sequence[Prompt]) -> Path | None:
    """The file of the sheet; None if none was asked for."""
    if request.sheet is not None or not request.compare or not request.save:
        return request.sheet
    output = request.output or Path()
    if output.suffix.lower() == ".png" and not output.is_dir():
        return output  # its images are FILE-SEED.png
    return output / f"{'-'.join([*map(slug, prompts[:1]), str(request.seed)])}-compare.png"


class Sheet:
    """Collects the images of a call, and writes them as one."""

    def __init__(self, path: Path, request: GenerateRequest) -> None:
        """Refuse, before a model is loaded, a file that cannot be written."""
        if path.suffix.lower() != ".png":
            raise UsageError(
                f"unsupported format of a contact sheet: {path.name}",
                note="it is a PNG file",
                reason="sheet-format",
                path=path.with_suffix(".png"),
            )
        check_folder(path.parent)
        if path.exists() and not request.force and not (request.skip_existing and _is_sheet(path)):
            raise exists(path)
        self.path = path
        self.lines: list[_Line] = []
        self.images: dict[Planned, NDArray[np.uint8]] = {}

    def plan(self, own: Sequence[Planned], plain: Sequence[Planned]) -> None:
        """Give the images of one prompt their place, below those planned before.

        Raises:
            UsageError: the sheet has the name of an image, or there are too many.
        """
        self.lines.append(_Line(own=own, plain=plain))
        if any(Path(place.path) == self.path for place in (*own, *plain)):
            raise UsageError(f"the contact sheet has the name of an image: {self.path}", reason="sheet-name")
        if sum(len(line.own) + len(line.plain) for line in self.lines) > MAX_IMAGES:
            raise UsageError(f"too many images for a contact sheet: more than {MAX_IMAGES}", reason="sheet-images")

    def add(self, place: Planned, pixels: NDArray[np.uint8]) -> None:
        """Keep an image, in the size that it has on the sheet."""
        import numpy as np
        from PIL import Image

        small = Image.fromarray(pixels)
        small.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
        self.images[place] = np.asarray(small)

    def write(self) -> str | None:
        """Write the sheet. Returns its path, or None if all images failed."""
        import numpy as np

        from cnsctl.data.png import png_bytes, png_pixels
        from cnsctl.report.contact_sheet import contact_sheet

        places = [place for line in self.lines for place in (*line.own, *line.plain)]
        for place in places:
            if place.is_there:
                self.add(place, png_pixels(Path(place.path).read_bytes()))
        if not self.images:
            return None
        seeds = sorted({place.seed for place in places})
        title = f"seed {seeds[0]}" if len(seeds) == 1 else None
        image = contact_sheet(self._rows(several=title is None), cell=CELL, title=title, labels_above=True)
        keep(self.path, png_bytes(np.asarray(image), {SHEET: json.dumps({"images": len(self.images)})}))
        return str(self.path)

    def _rows(self, *, several: bool) -> list[SheetRow]:
        """One seed: prompts beside each other. Several: a row, or more, of each prompt. A comparison: row by row."""
        if any(line.plain for line in self.lines):
            return [row for line in self.lines for row in self._compared(line, several=several)]
        if several:
            return [
                self._row(line.own[0].prompt.text, {"": [(place, f"seed {place.seed}") for place in row]})
                for line in self.lines
                for row in _split(line.own, COLUMNS)
            ]
        places = [place for line in self.lines for place in line.own]
        rows = _split(places, _columns(len(places)))
        return [self._row("", {"": [(place, place.prompt.text) for place in row]}) for row in rows]

    def _compared(self, line: _Line, *, several: bool) -> Iterator[SheetRow]:
        """The base model at the left, the concept at the right, on the same seeds."""
        named = " ".join(f"<{m.name}>" for m in line.own[0].prompt.mentions) or "the concepts of the store"
        for pairs in _split(list(zip(line.plain, line.own, strict=True)), SEEDS):
            columns = {"base model": [pair[0] for pair in pairs], f"with {named}": [pair[1] for pair in pairs]}
            yield self._row(
                "",
                {
                    caption: [(p, p.prompt.text + (f" (seed {p.seed})" if several else "")) for p in column]
                    for caption, column in columns.items()
                },
            )

    def _row(self, label: str, groups: Mapping[str, Sequence[tuple[Planned, str]]]) -> SheetRow:
        """A row of captioned groups of images, each with its text; without images that could not be generated."""
        from cnsctl.report.contact_sheet import SheetGroup, SheetRow

        there = {caption: [(p, t) for p, t in group if p in self.images] for caption, group in groups.items()}
        return SheetRow(
            label=label,
            groups=[
                SheetGroup(caption=caption, images=[self.images[p] for p, _ in group], texts=[t for _, t in group])
                for caption, group in there.items()
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """The images of one prompt, by seed, and for a comparison those of the base model."""

    own: Sequence[Planned]
    plain: Sequence[Planned]


def _columns(n_images: int) -> int:
    """Images beside each other: one row of a few, else so many that the fewest cells stay blank."""
    if n_images < COLUMNS:
        return n_images
    return min(range(COLUMNS, 2, -1), key=lambda columns: -n_images % columns)


def _split(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Parts of at most so many items."""
    return [items[at : at + most] for at in range(0, len(items), most)]


def _is_sheet(path: Path) -> bool:
    """Whether a file is a contact sheet that cnsctl wrote."""
    from cnsctl.data.png import read_png_text

    try:
        return SHEET in read_png_text(path)
    except CnsctlError:
        return False
