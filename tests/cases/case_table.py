"""A situation that users of this or of another tool reported, as a row: what is given, and what must be said.

A new report is one more row in a table of its kind. `id` is the report's, or a word; `seen` is the thread, if there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FILES = Path(__file__).parent / "files"


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    line: tuple[object, ...]
    """A command line, run in an empty folder with a store that has the concepts `dog` and `hat`. `add` is stopped where
    the training would begin, which counts as success."""
    make: Callable[[Path], object] = lambda _folder: None
    """Prepares that folder."""
    stdin: str | bytes = ""
    code: int = 0
    says: tuple[str, ...] = ()
    """On stdout or stderr."""
    never: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    seen: str = ""


def picture(seed: int = 0, side: int = 40) -> Image.Image:
    """An image of 8 × 8 coloured squares."""
    cells = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((side, side), Image.Resampling.NEAREST)


def with_images(*names: str, **others: bytes | str) -> Callable[[Path], object]:
    """Makes a folder `x` of images and of other files: a name's `__` is a dot."""

    def make(folder: Path) -> None:
        (folder / "x").mkdir()
        for seed, name in enumerate(names):
            picture(seed).save(folder / "x" / name, **({"format": "JPEG"} if name.endswith("jfif") else {}))
        for name, content in others.items():
            path = folder / "x" / name.replace("__", ".")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make
