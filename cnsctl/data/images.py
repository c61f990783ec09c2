"""Training images: which files count, their captions, and the square pixels that are trained on.

Owns the rules of image folders; must not know models, stores or how files are decoded.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.data.decoding import decode
from cnsctl.data.prompt_grammar import bad_character
from cnsctl.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of image files in a folder, in any case."""

MAX_CAPTION = 1000
"""Characters of a caption that are read; text encoders use far fewer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingImage:
    """One image, ready to train on."""

    name: str
    """Of its file, without the folder."""
    pixels: NDArray[np.uint8]
    """(size, size, 3), RGB, C order."""
    caption: str | None
    """From the `.txt` file of the same name."""
    sha256: str
    """Of its file."""
    note: str | None
    """A remark for the user: upscaled, animated, has duplicates."""


def read_images(source: Path | Sequence[Path], *, size: int, limit: int = 1000) -> list[TrainingImage]:
    """Read images from folders and files, cropped to their centre square and resized.

    Of a folder, its image files are read, sorted by name; hidden files, other files and subfolders are ignored. Of images
    with equal pixels, the first is kept. All checks are done before the function returns. Each file is decoded once, and
    only one decoded image is in memory at a time.

    Args:
        source: a folder, a file, or several of either.
        size: height and width wanted, in pixels.
        limit: more images than this are refused, because it is probably the wrong folder.

    Raises:
        ImageError: the message names the file, and the hint says what to do.
    """
    return _without_duplicates([_read(path, size) for path in _files(source, limit)])


def _files(source: Path | Sequence[Path], limit: int) -> list[Path]:
    sources = [source] if isinstance(source, Path) else list(source)
    if not sources:
        raise ImageError("no images given", hint="give a folder of images, or image files")
    paths = [path for given in sources for path in (_in_folder(given) if _is_folder(given) else [given])]
    if len(paths) > limit:
        raise ImageError(
            f"too many images: '{sources[0]}': {len(paths)} (at most {limit})",
            hint="a concept needs about five images: give these files, or copy them to another folder",
        )
    return paths


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as err:
        raise ImageError(f"folder or file not found: '{path}'", hint="check its name") from err
    except OSError as err:
        raise ImageError(f"cannot read '{path}': {err.strerror}", hint="check its permissions") from err


def _in_folder(folder: Path) -> list[Path]:
    try:
        seen = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.name)
        folders = [p for p in seen if p.is_dir()]
    except OSError as err:
        raise ImageError(f"cannot read '{folder}': {err.strerror}", hint="check its permissions") from err
    found = [p for p in seen if p.suffix.lower() in SUFFIXES and p not in folders]
    if found:
        return found
    within = next((f for f in folders if _has_images(f)), None)
    raise ImageError(
        f"no images in the folder '{folder}'",
        note=f"it contains {len(seen) - len(folders)} other files; images end in {', '.join(SUFFIXES)}",
        hint=f"subfolders are not searched: give '{within}'" if within else "give a folder of images",
    )


def _has_images(folder: Path) -> bool:
    try:
        return any(p.suffix.lower() in SUFFIXES for p in folder.iterdir() if not p.name.startswith("."))
    except OSError:
        return False


def _read(path: Path, size: int) -> TrainingImage:
    import numpy as np

    found = decode(path)
    side = min(found.image.size)
    notes = list(found.notes)
    if side < size:
        notes.append(f"upscaled from {found.image.width}x{found.image.height}")
    return TrainingImage(
        name=str(path.name).encode(errors="replace").decode(),  # a name that is not UTF-8 must not break JSON later
        pixels=np.array(_square(found.image, size)),
        caption=_caption(path),
        sha256=found.sha256,
        note="; ".join(notes) or None,
    )


def _square(image: Image.Image, size: int) -> Image.Image:
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def _caption(image: Path) -> str | None:
    path = image.with_suffix(".txt")
    try:
        if not path.is_file():
            return None
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(64 * MAX_CAPTION).strip()[:MAX_CAPTION].strip()
    except UnicodeDecodeError as err:
        raise ImageError(f"cannot read the caption '{path}': not UTF-8", hint="save it as UTF-8") from err
    except OSError as err:
        raise ImageError(f"cannot read the caption '{path}': {err.strerror}", hint="check its permissions") from err
    if (bad := bad_character(text)) is not None:
        raise ImageError(f"the caption '{path}' contains {bad}", hint="remove it: a caption is one line of text")
    return text.replace("\t", " ") or None


def _without_duplicates(images: list[TrainingImage]) -> list[TrainingImage]:
    """Keep the first of images with equal pixels: a duplicate would have twice the weight in training."""
    kept: dict[bytes, TrainingImage] = {}
    for image in images:
        pixels = hashlib.sha256(image.pixels.tobytes()).digest()
        first = kept.setdefault(pixels, image)
        if first is not image:
            notes = [note for note in (first.note, f"{image.name} is a duplicate and was ignored") if note is not None]
            kept[pixels] = replace(first, note="; ".join(notes))
    return list(kept.values())
