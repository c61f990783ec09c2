"""PNG files with texts.

Owns how pixels and texts are written to one file and read again; must not know which texts there are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.data.decoding import open_image
from cnsctl.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


def png_bytes(pixels: NDArray[np.uint8], text: Mapping[str, str] | None = None) -> bytes:
    """Encode an image as PNG. The same pixels and texts, in any order, give the same bytes.

    Args:
        pixels: (h, w, 3), RGB.
        text: by keyword (1 to 79 characters of Latin-1); values are texts without NUL or lone surrogates.

    Raises:
        ValueError: another shape or dtype, or a text that a PNG cannot contain.
    """
    from io import BytesIO

    from PIL import Image, PngImagePlugin

    if pixels.dtype.name != "uint8" or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels must be uint8 (h, w, 3), not {pixels.dtype} {pixels.shape}")
    chunks = PngImagePlugin.PngInfo()
    for key, value in sorted((text or {}).items()):
        if not 0 < len(key.encode("latin-1")) < 80 or "\0" in key + value:
            raise ValueError(f"a PNG cannot contain the text {key!r}: {value!r}")
        chunks.add_text(key, value)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=chunks, compress_level=6)
    return file.getvalue()


def read_png_text(png: bytes | Path) -> dict[str, str]:
    """Read the texts of a PNG, before and after the pixels.

    Raises:
        ImageError: it cannot be read, is not a PNG, is damaged or too large.
    """
    shown = str(png) if isinstance(png, Path) else "the PNG"
    try:
        content = png.read_bytes() if isinstance(png, Path) else png
    except OSError as err:
        raise ImageError(f"cannot read '{shown}': {err.strerror}", hint="check its name and permissions") from err
    with open_image(content, shown, ("PNG",)) as image:
        texts: Mapping[str, str] = getattr(image, "text", {})  # decodes the pixels to reach the texts after them
    return {str(key): str(value) for key, value in texts.items()}


def png_pixels(png: bytes) -> NDArray[np.uint8]:
    """Read pixels that `png_bytes` wrote: (h, w, 3).

    Raises:
        ImageError: it is not a PNG, or is damaged.
    """
    import numpy as np

    with open_image(png, "an image of the store", ("PNG",)) as image:
        return np.asarray(image.convert("RGB"))
