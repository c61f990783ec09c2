"""Pictures of a concept: which files count, their captions, and the square pixels that are learned from.

Owns the rules of picture folders; must not know models, stores or how files are decoded.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.data.decoding import decoded
from cnsctl.data.prompt_grammar import bad_character
from cnsctl.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of the files that a folder's pictures have, in any case."""

MAX_CAPTION = 1000
"""Characters of a caption that are read; text encoders see far fewer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingImage:
    """One picture, ready to learn from."""

    name: str
    """Of its file, without the folder."""
    pixels: NDArray[np.uint8]
    """(size, size, 3), RGB, C order."""
    caption: str | None
    """From the `.txt` file of the same name."""
    sha256: str
    """Of its file."""
    note: str | None
    """What the user should know about it: upscaled, animated, present twice."""


def read_images(source: Path | Sequence[Path], *, size: int, limit: int = 1000) -> list[TrainingImage]:
    """Read the pictures of folders and files, cut to their centre square and resized.

    A folder gives its own pictures, by name; hidden files, other files and sub-folders are passed over. Of pictures with
    equal pixels the first is kept. Everything that can be refused is refused before the first picture is returned. Each
    file is decoded once, and only one decoded image is in memory at a time.

    Args:
        source: a folder, a file, or several of either.
        size: height and width wanted, in pixels.
        limit: more pictures than this are refused: it is the wrong folder.

    Raises:
        ImageError: names the file and what to do about it.
    """
    return _without_twins([_picture(path, size) for path in _files(source, limit)])


def _files(source: Path | Sequence[Path], limit: int) -> list[Path]:
    sources = [source] if isinstance(source, Path) else list(source)
    if not sources:
        raise ImageError("no pictures were named", hint="name a folder of pictures, or picture files")
    paths = [path for given in sources for path in (_in_folder(given) if _is_folder(given) else [given])]
    if len(paths) > limit:
        raise ImageError(
            f"'{sources[0]}' gives {len(paths)} pictures, more than {limit}",
            hint="a concept takes about five: name the files wanted, or copy them to a folder of their own",
        )
    return paths


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as err:
        raise ImageError(f"there is no folder or file '{path}'", hint="check its name") from err
    except OSError as err:
        raise ImageError(f"'{path}' cannot be read ({err.strerror})", hint="check its permissions") from err


def _in_folder(folder: Path) -> list[Path]:
    try:
        seen = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.name)
        folders = [p for p in seen if p.is_dir()]
    except OSError as err:
        raise ImageError(f"'{folder}' cannot be read ({err.strerror})", hint="check its permissions") from err
    found = [p for p in seen if p.suffix.lower() in SUFFIXES and p not in folders]
    if found:
        return found
    within = next((f for f in folders if _has_pictures(f)), None)
    raise ImageError(
        f"'{folder}' has no pictures in it: {', '.join(SUFFIXES)} count, and it has {len(seen) - len(folders)} other files",
        hint=f"sub-folders are not searched: name '{within}' itself" if within else "name a folder of pictures",
    )


def _has_pictures(folder: Path) -> bool:
    try:
        return any(p.suffix.lower() in SUFFIXES for p in folder.iterdir() if not p.name.startswith("."))
    except OSError:
        return False


def _picture(path: Path, size: int) -> TrainingImage:
    import numpy as np

    picture = decoded(path)
    side = min(picture.image.size)
    notes = list(picture.notes)
    if side < size:
        notes.append(f"upscaled from {picture.image.width}x{picture.image.height}")
    return TrainingImage(
        name=str(path.name).encode(errors="replace").decode(),  # a name of other bytes must not break JSON later
        pixels=np.array(_squared(picture.image, size)),
        caption=_caption(path),
        sha256=picture.sha256,
        note="; ".join(notes) or None,
    )


def _squared(image: Image.Image, size: int) -> Image.Image:
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def _caption(picture: Path) -> str | None:
    path = picture.with_suffix(".txt")
    try:
        if not path.is_file():
            return None
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(64 * MAX_CAPTION).strip()[:MAX_CAPTION].strip()
    except UnicodeDecodeError as err:
        raise ImageError(f"the caption '{path}' is not UTF-8 text", hint="save it as UTF-8") from err
    except OSError as err:
        raise ImageError(f"the caption '{path}' cannot be read ({err.strerror})", hint="check its permissions") from err
    if (bad := bad_character(text)) is not None:
        raise ImageError(f"the caption '{path}' has {bad}", hint="a caption is one line of plain text: take it out")
    return text.replace("\t", " ") or None


def _without_twins(pictures: list[TrainingImage]) -> list[TrainingImage]:
    """Keep the first of pictures with equal pixels: a picture that counts twice is learned twice."""
    kept: dict[bytes, TrainingImage] = {}
    for picture in pictures:
        pixels = hashlib.sha256(picture.pixels.tobytes()).digest()
        first = kept.setdefault(pixels, picture)
        if first is not picture:
            notes = [note for note in (first.note, f"{picture.name} is the same and was left out") if note is not None]
            kept[pixels] = replace(first, note="; ".join(notes))
    return list(kept.values())
