"""Safe decoding of one image file to RGB.

Owns what is safe to decode and how each kind of pixel becomes RGB; must not know folders, captions or the requested size.
"""

from __future__ import annotations

import hashlib
import stat
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.data.colours import in_srgb
from cnsctl.data.image_kinds import FORMATS, HEAD, can_read, cannot_read, kind_of
from cnsctl.data.repairs import BROKEN, with_its_end, without_long_texts
from cnsctl.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from PIL import Image, ImageFile

MAX_BYTES = 256 << 20
MAX_SIDE = 16_384
MAX_PIXELS = 64_000_000
MIN_SIDE = 16

_SAVE_AGAIN = "open it in another program and save it as PNG, or leave it out"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedImage:
    """An image in its original size: upright by its EXIF orientation, without transparency, in sRGB."""

    image: Image.Image
    """Mode RGB."""
    alpha: Image.Image | None
    """Mode L, of an image with transparency."""
    sha256: str
    """Of the file."""
    notes: tuple[str, ...]
    """Remarks for the user."""
    warnings: tuple[str, ...]
    """Why it is probably not what the user meant."""


def decode(path: Path) -> DecodedImage:
    """Decode one whole file, so that a truncated file is detected here and not during training.

    Raises:
        ImageError: it cannot be read, is not an image, is damaged, or is too large or too small.
    """
    content = _content(path)
    try:
        found = _decoded(content, str(path))
    except ImageError:
        if (whole := with_its_end(content, max_pixels=MAX_PIXELS)) is None:
            raise
        found = _decoded(whole, str(path), "the end of the file is missing, but all pixels are there")
    if min(found.image.size) < MIN_SIDE:
        raise ImageError(
            f"image is too small: '{path}': {found.image.width}x{found.image.height} (at least {MIN_SIDE}x{MIN_SIDE})",
            hint="use a larger copy, or leave it out",
        )
    return found


def _decoded(content: bytes, shown: str, *notes: str) -> DecodedImage:
    with open_image(without_long_texts(content), shown, FORMATS) as image:
        n_frames = getattr(image, "n_frames", 1)
        if n_frames > 1 and image.format != "MPO":  # a JPEG of a phone with a second image, such as its depth
            notes = (*notes, f"first of {n_frames} frames")
        flat, alpha, remark = _to_rgb(image, shown)
    return DecodedImage(
        image=flat,
        alpha=alpha,
        sha256=hashlib.sha256(content).hexdigest(),
        notes=(*notes, *([] if remark is None else [remark])),
        warnings=_suspicions(flat, alpha),
    )


def _suspicions(flat: Image.Image, alpha: Image.Image | None) -> tuple[str, ...]:
    if alpha is not None and alpha.getextrema()[1] == 0:
        return ("the image is fully transparent, so it is trained as white",)
    if all(low == high for low, high in _levels(flat)):
        return ("the image has one colour only",)
    return ()


def _levels(flat: Image.Image) -> list[tuple[int, int]]:
    """Lowest and highest level of each channel of an RGB image."""
    return [tuple(map(int, pair)) for pair in flat.getextrema()]  # type: ignore[misc, arg-type]


@contextmanager
def open_image(content: bytes, shown: str, formats: tuple[str, ...] = FORMATS) -> Iterator[ImageFile.ImageFile]:
    """Open an image after a check of its size. An error of the decoder inside the block becomes an ImageError.

    Args:
        content: the whole file.
        shown: its name in messages.
        formats: those allowed; the suffix of the file is ignored.

    Raises:
        ImageError: it is not an image of these formats, is damaged, or is too large.
    """
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError

    kind = kind_of(content[:HEAD])
    if kind not in formats:
        raise _unidentified(content, shown, formats)
    if not can_read(kind):
        raise cannot_read(kind, f"'{shown}'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user cannot fix odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(BytesIO(content), formats=(kind,)) as image:
                if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
                    raise _too_large(shown, f"{image.width}x{image.height}")
                yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as err:
            raise _too_large(shown, "more pixels than the decoder allows") from err
        except UnidentifiedImageError as err:
            raise ImageError(f"image is damaged: '{shown}'", hint=_SAVE_AGAIN) from err
        except BROKEN as err:
            raise ImageError(f"image is damaged: '{shown}': {err}", hint=_SAVE_AGAIN) from err


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What an image file says about itself."""

    kind: str
    """Its format, such as `PNG`."""
    size: tuple[int, int]
    """Width and height in pixels."""
    texts: Mapping[str, str]
    """Of a PNG, by keyword, before and after the pixels; empty for other formats."""


def facts_of(path: Path) -> FileFacts:
    """Read what an image file says about itself; the pixels of a PNG are decoded, because texts may follow them.

    Raises:
        ImageError: it cannot be read, is not an image, is damaged or too large.
    """
    with open_image(_content(path), str(path)) as image:
        texts: Mapping[str, str] = getattr(image, "text", {}) if image.format == "PNG" else {}
        return FileFacts(kind=str(image.format), size=image.size, texts={str(k): str(v) for k, v in texts.items()})


def _content(path: Path) -> bytes:
    """Read the file once, so that the hashed bytes are the decoded ones."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"not a regular file: '{path}'", hint="give an image file")
        if status.st_size > MAX_BYTES:
            raise ImageError(
                f"image is too large: '{path}': {status.st_size >> 20} MB (at most {MAX_BYTES >> 20} MB)",
                hint="save a smaller copy",
            )
        return path.read_bytes()
    except FileNotFoundError as err:
        raise ImageError(f"image not found: '{path}'", hint="check its name") from err
    except OSError as err:
        raise ImageError(
            f"cannot read '{path}': {err.strerror}", hint="check its permissions and its disk, or leave it out"
        ) from err


def _to_rgb(image: Image.Image, shown: str) -> tuple[Image.Image, Image.Image | None, str | None]:
    """Rotate by the EXIF orientation, convert to sRGB, put on white: 8-bit RGB, its transparency, and a remark."""
    from PIL import Image

    profile = image.info.get("icc_profile")
    image.load()
    image = _upright(image)
    if image.mode == "F":
        raise ImageError(f"the pixels are floating-point numbers: '{shown}'", hint=_SAVE_AGAIN)
    if image.mode.startswith("I"):  # 16-bit grey: a plain conversion would clip it to white
        image = image.point(lambda level: level * (1 / 256)).convert("L")
        image.info.pop("transparency", None)
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    flat, remark = in_srgb(image, profile)
    if alpha is None:
        return flat, None, remark
    flat.putalpha(alpha)
    white = Image.new("RGBA", flat.size, "white")
    return Image.alpha_composite(white, flat).convert("RGB"), alpha, remark


def _upright(image: Image.Image) -> Image.Image:
    """Turn by the EXIF orientation. Metadata is not the image: whatever else it contains is not looked at."""
    from PIL import Image

    turn = Image.Transpose
    turns = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE}
    turns |= {6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90}
    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001  the reader of odd metadata fails in many ways
        return image
    found = turns.get(orientation) if isinstance(orientation, int) else None
    return image if found is None else image.transpose(found)


def _too_large(shown: str, value: str) -> ImageError:
    return ImageError(
        f"image is too large: '{shown}': {value}",
        note=f"at most {MAX_SIDE} pixels per side and {MAX_PIXELS // 10**6} million pixels",
        hint="save a smaller copy",
    )


def _unidentified(content: bytes, shown: str, formats: tuple[str, ...]) -> ImageError:
    if not content:
        return ImageError(f"image is empty: '{shown}'", hint="copy it again, or leave it out")
    if kind_of((content + bytes(HEAD))[:HEAD]) in formats:
        return ImageError(f"image is damaged: '{shown}'", hint=_SAVE_AGAIN)
    what = f"not an image in {', '.join(formats)} format: '{shown}'"
    if content.startswith(b"version https://git-lfs"):
        return ImageError(what, note="it is a Git LFS pointer", hint="run git lfs pull")
    if content[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return ImageError(what, note="it is a web page", hint="download the image again, or leave it out")
    return ImageError(what, hint=_SAVE_AGAIN)
