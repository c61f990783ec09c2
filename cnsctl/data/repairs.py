"""Files that are not quite whole but contain every pixel: a PNG with megabytes of text, a JPEG without its end.

Owns what may be repaired; must not know what is done with the image.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib

from cnsctl.data.image_kinds import HEAD, kind_of

BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, ArithmeticError, RuntimeError, struct.error,
    zlib.error,
)  # fmt: skip
"""Exceptions of the decoders for damaged bytes."""

_PNG = b"\x89PNG\r\n\x1a\n"

_OTHER_PIXELS = [
    b"".join(mark + bytes([byte]) * 300 for mark in (b"", *(bytes([255, 0xD0 + i % 8]) for i in range(24))))
    for byte in (0x00, 0x55, 0xAA, 0xDB, 0xFE)
]
"""What a decoder of JPEG takes for pixels if some are missing: with restart marks, each a new beginning."""


def without_long_texts(content: bytes) -> bytes:
    """A PNG without its texts, which may be megabytes of a program's settings; those with the orientation stay."""
    if not content.startswith(_PNG):
        return content
    kept, at = [_PNG], len(_PNG)
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        body = content[at + 8 : at + 8 + 64]
        text = content[at + 4 : at + 8] in (b"tEXt", b"zTXt", b"iTXt")
        if not text or (end - at < 1 << 16 and body.startswith((b"Raw profile type exif", b"XML:com.adobe.xmp"))):
            kept.append(content[at:end])
        at = end
    kept.append(content[at:])
    return b"".join(kept)


def with_its_end(content: bytes, *, max_pixels: int) -> bytes | None:
    """A JPEG with the end marker that it lacks, or None if pixels are missing too.

    If they are all there, bytes between them and the marker are ignored. Otherwise the decoder takes them for pixels.
    """
    from io import BytesIO

    from PIL import Image

    if kind_of(content[:HEAD]) != "JPEG":
        return None
    content = content.rstrip(b"\xff")
    found = set()
    for more in (b"", *_OTHER_PIXELS):
        try:
            with (
                warnings.catch_warnings(action="ignore"),  # the user cannot fix odd metadata
                Image.open(BytesIO(content + more + b"\xff\xd9"), formats=("JPEG",)) as image,
            ):
                if image.width * image.height > max_pixels or ("progressive" in image.info and not _scanned(content)):
                    return None
                found.add(hashlib.sha256(image.tobytes()).digest())
        except (*BROKEN, Image.DecompressionBombError):
            return None
        if len(found) > 1:
            return None
    return content + b"\xff\xd9"


def _scanned(content: bytes) -> bool:
    """Whether a progressive JPEG contains the last scan of every coefficient: else it is whole, but not sharp."""
    done: dict[int, set[int]] = {}
    at = content.find(b"\xff\xda")
    while at >= 0:
        n = content[at + 4] if at + 4 < len(content) else 0
        components = content[at + 5 : at + 5 + 2 * n : 2]
        low, high, bits = (*content[at + 5 + 2 * n : at + 8 + 2 * n], 0, 0, 1)[:3]
        for component in components:
            done.setdefault(component, set()).update(range(low, high + 1) if bits & 15 == 0 else ())
        at = content.find(b"\xff\xda", at + 2)
    return bool(done) and all(len(coefficients) == 64 for coefficients in done.values())
