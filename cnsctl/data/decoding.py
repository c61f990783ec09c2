"""Safe decoding of one image file to RGB.

Owns what is safe to decode and how each kind of pixel becomes RGB; must not know folders, captions or the requested size.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL import Image, ImageFile

FORMATS = ("PNG", "JPEG", "WEBP")
"""Formats that are decoded. The other decoders of the library have had more vulnerabilities."""

MAX_BYTES = 256 << 20
MAX_SIDE = 16_384
MAX_PIXELS = 64_000_000
MIN_SIDE = 16

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, ArithmeticError, struct.error, zlib.error)
"""Exceptions of the decoders for damaged bytes."""

_MAGIC = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF"}
_SAVE_AGAIN = "open it in another program and save it as PNG, or leave it out"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedImage:
    """An image in its original size: upright by its EXIF orientation, without transparency."""

    image: Image.Image
    """Mode RGB."""
    sha256: str
    """Of the file."""
    notes: tuple[str, ...]
    """Remarks for the user."""


def decode(path: Path) -> DecodedImage:
    """Decode one whole file, so that a truncated file is detected here and not during training.

    Raises:
        ImageError: it cannot be read, is not an image, is damaged, or is too large or too small.
    """
    content = _content(path)
    with open_image(content, str(path)) as image:
        n_frames = getattr(image, "n_frames", 1)
        flat = _to_rgb(image)
    if min(flat.size) < MIN_SIDE:
        raise ImageError(
            f"image is too small: '{path}': {flat.width}x{flat.height} (at least {MIN_SIDE}x{MIN_SIDE})",
            hint="use a larger copy, or leave it out",
        )
    notes = (f"first of {n_frames} frames",) if n_frames > 1 else ()
    return DecodedImage(image=flat, sha256=hashlib.sha256(content).hexdigest(), notes=notes)


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

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user cannot fix odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(BytesIO(content), formats=formats) as image:
                if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
                    raise _too_large(shown, f"{image.width}x{image.height}")
                yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as err:
            raise _too_large(shown, "more pixels than the decoder allows") from err
        except UnidentifiedImageError as err:
            raise _unidentified(content, shown, formats) from err
        except _BROKEN as err:
            raise ImageError(f"image is damaged: '{shown}': {err}", hint=_SAVE_AGAIN) from err


def _content(path: Path) -> bytes:
    """Read the file once, so that the hashed bytes are the decoded ones."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"not a regular file: '{path}'", hint="give a PNG, JPEG or WEBP file")
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


def _to_rgb(image: Image.Image) -> Image.Image:
    """Rotate by the EXIF orientation, put on white, reduce to 8-bit RGB."""
    from PIL import Image, ImageOps

    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey: a plain conversion would clip it to white
        image = image.point(lambda level: level * (1 / 256)).convert("L")
        image.info.pop("transparency", None)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _too_large(shown: str, value: str) -> ImageError:
    return ImageError(
        f"image is too large: '{shown}': {value}",
        note=f"at most {MAX_SIDE} pixels per side and {MAX_PIXELS // 10**6} million pixels",
        hint="save a smaller copy",
    )


def _unidentified(content: bytes, shown: str, formats: tuple[str, ...]) -> ImageError:
    if not content:
        return ImageError(f"image is empty: '{shown}'", hint="copy it again, or leave it out")
    if content.startswith(tuple(_MAGIC[f] for f in formats)):
        return ImageError(f"image is damaged: '{shown}'", hint=_SAVE_AGAIN)
    return ImageError(f"not an image in {' or '.join(formats)} format: '{shown}'", hint=_SAVE_AGAIN)
