"""One picture file, distrusted: from bytes to plain RGB.

Owns what is safe to decode and how each kind of pixel becomes RGB; must not know folders, captions or sizes wanted.
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
"""What is decoded at all: the other decoders of the library have the longer list of holes."""

MAX_BYTES = 256 << 20
MAX_SIDE = 16_384
MAX_PIXELS = 64_000_000
MIN_SIDE = 16

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, ArithmeticError, struct.error, zlib.error)
"""What the decoders raise for bytes that they cannot read; damage shows in all these ways."""

_MAGIC = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF"}
_SAVE_AGAIN = "open it in another program and save it again as PNG, or take it out"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """A picture as its maker saw it: turned upright, without transparency, in its own size."""

    image: Image.Image
    """Mode RGB."""
    sha256: str
    """Of the file."""
    notes: tuple[str, ...]
    """What a reader of the file would not expect."""


def decoded(path: Path) -> Decoded:
    """Decode one file wholly, so that a file cut short is found here and not while learning.

    Raises:
        ImageError: it cannot be read, is no picture, is broken, or is too large or too small.
    """
    content = _content(path)
    with opened(content, str(path)) as image:
        n_frames = getattr(image, "n_frames", 1)
        flat = _flat(image)
    if min(flat.size) < MIN_SIDE:
        raise ImageError(
            f"'{path}' is {flat.width}x{flat.height}: too small to learn from",
            hint=f"each side takes {MIN_SIDE} pixels at least; take it out or find a larger copy",
        )
    notes = (f"first of {n_frames} frames",) if n_frames > 1 else ()
    return Decoded(image=flat, sha256=hashlib.sha256(content).hexdigest(), notes=notes)


@contextmanager
def opened(content: bytes, shown: str, formats: tuple[str, ...] = FORMATS) -> Iterator[ImageFile.ImageFile]:
    """Open a picture whose size is known to be sane; whatever fails inside the block is told as a broken picture.

    Args:
        content: the whole file.
        shown: what a message calls it.
        formats: those allowed; the name of the file has no say.

    Raises:
        ImageError: it is no picture of these formats, is broken, or is too large.
    """
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata is not the user's to mend
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(BytesIO(content), formats=formats) as image:
                if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
                    raise _too_large(shown, f"{image.width}x{image.height}")
                yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as err:
            raise _too_large(shown, "far too many pixels") from err
        except UnidentifiedImageError as err:
            raise _unidentified(content, shown, formats) from err
        except _BROKEN as err:
            raise ImageError(f"'{shown}' is broken or cut short ({err})", hint=_SAVE_AGAIN) from err


def _content(path: Path) -> bytes:
    """Read the file once: what is hashed is what is decoded."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"'{path}' is not a regular file", hint="name a PNG, JPEG or WEBP file")
        if status.st_size > MAX_BYTES:
            raise ImageError(
                f"'{path}' has {status.st_size >> 20} MB, more than {MAX_BYTES >> 20}", hint="save a smaller copy of it"
            )
        return path.read_bytes()
    except FileNotFoundError as err:
        raise ImageError(f"there is no file '{path}'", hint="check its name") from err
    except OSError as err:
        raise ImageError(
            f"'{path}' cannot be read ({err.strerror})", hint="check its permissions and its disk, or take it out"
        ) from err


def _flat(image: Image.Image) -> Image.Image:
    """Turn upright, put on white, reduce to 8-bit RGB."""
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
        f"'{shown}' is too large to open safely ({value})",
        hint=f"save a smaller copy: at most {MAX_SIDE} pixels a side and {MAX_PIXELS // 10**6} million in all",
    )


def _unidentified(content: bytes, shown: str, formats: tuple[str, ...]) -> ImageError:
    if not content:
        return ImageError(f"'{shown}' is empty", hint="copy it again, or take it out")
    if content.startswith(tuple(_MAGIC[f] for f in formats)):
        return ImageError(f"'{shown}' is broken or cut short", hint=_SAVE_AGAIN)
    return ImageError(f"'{shown}' is no picture in the format {' or '.join(formats)}", hint=_SAVE_AGAIN)
