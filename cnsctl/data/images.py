"""Training images: their pixels in an aspect-ratio bucket, their captions and masks, and what is odd about them.

Owns what becomes of an image before it is encoded; must not know models, stores, how files are decoded or where they lie.
"""

from __future__ import annotations

import hashlib
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.data import layouts
from cnsctl.data.buckets import Fit, Size, fit
from cnsctl.data.decoding import decode
from cnsctl.data.masks import Masks
from cnsctl.data.near_duplicates import near_duplicates
from cnsctl.errors import ImageError
from cnsctl.home_folder import from_home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from cnsctl.concept import Frame

NOTED_CUT = 0.25
"""Share of an image. If more is cut off, a note says so."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingImage:
    """One image, ready to train on."""

    name: str
    """Of its file, without the folder."""
    pixels: NDArray[np.uint8]
    """(height, width, 3) of its bucket, RGB, C order."""
    caption: str | None
    sha256: str
    """Of its file."""
    frame: Frame
    """Which part of the original image the pixels are."""
    cut: float
    """Share of the original image that is cut off."""
    mask: NDArray[np.float32] | None = None
    """(height, width), 0 to 1: how much each pixel counts in training; None for all."""
    note: str | None = None
    """A remark for the user: upscaled, animated, has duplicates."""
    warnings: tuple[str, ...] = ()
    """Why it is probably not what the user meant."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSet:
    """The images of a concept, and what their folders say about it."""

    images: Sequence[TrainingImage]
    class_word: str | None
    """What kind of thing they show, if their folder or a file beside it says so."""
    source: str
    """Where the class word comes from."""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def read_images(
    source: str | Path | Sequence[str | Path],
    *,
    sizes: Sequence[Size],
    recursive: bool = False,
    masks: Path | None = None,
    limit: int = 1000,
) -> ImageSet:
    """Read images from folders and files, each cropped and resized to the bucket that cuts off least of it.

    Of a folder, its image files are read, sorted by name; hidden files are ignored, and other files are counted. Of
    images with equal pixels, the first is kept. All checks are done before the function returns. Each file is decoded
    once, and only one decoded image is in memory at a time.

    Args:
        source: a folder, a file, or several of either; errors name them as they are written here.
        sizes: heights and widths of the buckets.
        recursive: also search subfolders.
        masks: a folder with masks of the same names.
        limit: more images than this are refused, because it is probably the wrong folder.

    Raises:
        ImageError: the message names the file, and the hint says what to do.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    found = _found(sources, limit, recursive=recursive)
    wanted = None if masks is None else Masks(masks)
    names = _names(found.images)
    images = [_read(path, names[path], found.captions.get(path), sizes, wanted) for path in found.images]
    images = _without_duplicates(images)
    equal = near_duplicates({image.name: image.pixels for image in images})
    return ImageSet(
        images=images,
        class_word=found.class_word,
        source=found.source,
        notes=(*found.notes, *(() if wanted is None else wanted.notes())),
        warnings=(
            *found.warnings,
            *(f"{name} is nearly equal to {other}: what they show counts twice" for name, other in equal),
        ),
    )


def _found(sources: Sequence[str | Path], limit: int, *, recursive: bool) -> layouts.Found:
    if not sources:
        raise ImageError("no images given", hint="give a folder of images, or image files")
    parts: list[layouts.Found] = []
    files: list[Path] = []
    for given in sources:  # in the order given; files beside each other are one part
        source = from_home(given)
        if _is_folder(source, str(source if str(given).startswith("~") else given)):
            parts += [layouts.beside(files)] if files else []
            parts.append(layouts.in_folder(source, recursive=recursive))
            files = []
        else:
            files.append(source)
    parts += [layouts.beside(files)] if files else []
    found = layouts.together(parts)
    if len(found.images) > limit:
        raise ImageError(
            f"too many images: '{sources[0]}': {len(found.images)} (at most {limit})",
            hint="a concept needs about five images: give these files, or copy them to another folder",
        )
    return found


def _is_folder(path: Path, shown: str) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as err:
        is_link = re.match(r"\w+://", shown) is not None
        hint = "save the images to a folder first: nothing is downloaded" if is_link else "check its name"
        raise ImageError(f"folder or file not found: '{shown}'", hint=hint) from err
    except OSError as err:
        raise ImageError(f"cannot read '{shown}': {err.strerror}", hint="check its permissions") from err


def _names(paths: Sequence[Path]) -> Mapping[Path, str]:
    """Names to show: without the folder, unless two are equal."""
    last = [path.name for path in paths]
    shown = {p: p.name if last.count(p.name) == 1 else f"{p.parent.name}/{p.name}" for p in dict.fromkeys(paths)}
    # a name that is not UTF-8 must not break JSON later
    return {path: name.encode(errors="replace").decode() for path, name in shown.items()}


def _read(path: Path, name: str, caption: str | None, sizes: Sequence[Size], masks: Masks | None) -> TrainingImage:
    import numpy as np

    found = decode(path)
    placed = fit((found.image.height, found.image.width), sizes)
    notes = list(found.notes)
    if any(given < wanted for given, wanted in zip(placed.frame.original, placed.frame.target, strict=True)):
        notes.append(f"upscaled from {found.image.width}x{found.image.height}")
    if placed.cut > NOTED_CUT:
        height, width = placed.frame.target
        notes.append(f"{placed.cut:.0%} of it is cut off, to fit {width}x{height}".replace("%", " %"))
    return TrainingImage(
        name=name,
        pixels=np.array(_cropped(found.image, placed)),
        caption=caption,
        sha256=found.sha256,
        frame=placed.frame,
        cut=placed.cut,
        mask=None if masks is None else masks.of(path, placed),
        note="; ".join(notes) or None,
        warnings=found.warnings,
    )


def _cropped(image: Image.Image, placed: Fit) -> Image.Image:
    from PIL import Image

    height, width = placed.frame.target
    return image.resize((width, height), Image.Resampling.LANCZOS, box=placed.box)


def _without_duplicates(images: list[TrainingImage]) -> list[TrainingImage]:
    """Keep the first of images with equal pixels: a duplicate would have twice the weight in training."""
    kept: dict[bytes, TrainingImage] = {}
    for image in images:
        pixels = hashlib.sha256(repr(image.pixels.shape).encode() + image.pixels.tobytes()).digest()
        first = kept.setdefault(pixels, image)
        if first is not image:
            notes = [note for note in (first.note, f"{image.name} is a duplicate and was ignored") if note is not None]
            kept[pixels] = replace(first, note="; ".join(notes))
    return list(kept.values())
