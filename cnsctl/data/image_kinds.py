"""Image formats: telling them apart by their first bytes, and which of them this installation decodes.

Owns the list of formats; must not know pixels or folders.
"""

from __future__ import annotations

from cnsctl.errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF")
"""Formats that are decoded. The other decoders of the library have had more vulnerabilities."""

HEAD = 64
"""Bytes at the start of a file that `kind_of` needs."""

_MAGIC = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*"),
}
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIF": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"),
}
"""Brands of the `ftyp` box, most specific first: both formats may also contain the general ones of HEIF."""

_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def kind_of(head: bytes) -> str | None:
    """The image format that a file's first `HEAD` bytes announce, whatever its suffix; None if it is not an image."""
    for kind, starts in _MAGIC.items():
        if head.startswith(starts):
            return kind
    if head[:4] == b"RIFF" and (len(head) < 12 or head[8:12] == b"WEBP"):
        return "WEBP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp":
        box = head[8 : max(16, min(int.from_bytes(head[:4], "big"), HEAD))]
        found = {box[at : at + 4] for at in (0, *range(8, len(box), 4))}
        return next((kind for kind, brands in _BRANDS.items() if found.intersection(brands)), None)
    return None


def can_read(kind: str) -> bool:
    """Whether this installation decodes a format: HEIF needs an optional package."""
    if kind == "HEIF":
        return _heif_is_ready()
    if kind == "AVIF":
        from PIL import features

        return bool(features.check("avif"))
    return True


def cannot_read(kind: str, shown: str) -> ImageError:
    """The error for files of a format that this installation does not decode."""
    if kind == "HEIF":
        return ImageError(f"HEIC needs an optional package: {shown}", hint="pip install 'cnsctl[heic]'")
    return ImageError(f"this Pillow does not decode {kind}: {shown}", hint="install Pillow from PyPI")


def _heif_is_ready() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True
