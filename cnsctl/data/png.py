"""PNG bytes with texts in them.

Owns how pixels and what is known about them become one file and come back; must not know which texts there are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.data.decoding import opened
from cnsctl.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


def png_bytes(pixels: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> bytes:
    """Encode a picture as PNG; the same pixels and texts give the same bytes, in whatever order the texts come.

    Args:
        pixels: (h, w, 3), RGB.
        text: by keyword (1 to 79 characters of Latin-1); values are any text without NUL or lone surrogates.

    Raises:
        ValueError: for other shapes and types, and for texts that a PNG cannot hold.
    """
    from io import BytesIO

    from PIL import Image, PngImagePlugin

    if pixels.dtype.name != "uint8" or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"a picture takes uint8 pixels (h, w, 3), not {pixels.dtype} {pixels.shape}")
    chunks = PngImagePlugin.PngInfo()
    for key, value in sorted((text or {}).items()):
        if not 0 < len(key.encode("latin-1")) < 80 or "\0" in key + value:
            raise ValueError(f"a PNG cannot hold the text {key!r}: {value!r}")
        chunks.add_text(key, value)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=chunks, compress_level=6)
    return file.getvalue()


def read_png_text(png: bytes | Path) -> dict[str, str]:
    """Read the texts of a PNG, those after the pixels too.

    Raises:
        ImageError: it cannot be read, is no PNG, is broken or too large.
    """
    shown = str(png) if isinstance(png, Path) else "the PNG"
    try:
        content = png.read_bytes() if isinstance(png, Path) else png
    except OSError as err:
        raise ImageError(f"'{shown}' cannot be read ({err.strerror})", hint="check its name and permissions") from err
    with opened(content, shown, ("PNG",)) as image:
        texts: Mapping[str, str] = getattr(image, "text", {})  # decodes the pixels to reach what follows them
    return {str(key): str(value) for key, value in texts.items()}


def png_pixels(png: bytes) -> NDArray[np.uint8]:
    """Read back what `png_bytes` wrote: (h, w, 3).

    Raises:
        ImageError: it is no PNG, or is broken.
    """
    import numpy as np

    with opened(png, "a picture of the store", ("PNG",)) as image:
        return np.asarray(image.convert("RGB"))
