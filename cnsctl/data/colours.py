"""Colour profiles: from the colours of a camera or a monitor to sRGB, which base models are trained on.

Owns the conversion; must not know files.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""From a profile's colour space to the mode of the pixels that it describes."""

_EQUAL = 2
"""Levels of 255. A profile that changes no colour by more is sRGB under some name: its pixels are left as they are."""


def in_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """An RGB image in sRGB without transparency, and a remark if its colour profile cannot be used.

    Args:
        image: of any mode with 8 bits per channel; not changed.
        profile: an ICC profile, or None for sRGB.
    """
    from PIL import ImageCms

    plain = image.convert("RGBA").convert("RGB") if image.has_transparency_data else image.convert("RGB")
    if not profile:
        return plain, None
    try:
        known = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = _MODES.get(known.profile.xcolor_space.strip())
        if mode is None or (mode == "CMYK") != (image.mode == "CMYK") or (mode == "L" and image.mode[0] not in "L1"):
            return plain, "its colour profile is of another kind than its pixels, and is ignored"
        convert = ImageCms.buildTransform(known, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode != "CMYK" and _changes_nothing(convert, mode):
            return plain, None
        found = ImageCms.applyTransform(image if image.mode == mode else plain.convert(mode), convert)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return plain, "its colour profile is damaged, and is ignored"
    assert found is not None
    return found, None


def _changes_nothing(convert: object, mode: str) -> bool:
    """Whether a transform leaves a lattice of colours as they are."""
    import numpy as np
    from PIL import Image, ImageCms

    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(1, -1, 3)
    colours = Image.fromarray(grid if mode == "RGB" else grid[..., 0])
    found = ImageCms.applyTransform(colours, convert)  # type: ignore[arg-type]
    assert found is not None
    moved = np.asarray(found, dtype=np.int16) - np.asarray(colours.convert("RGB"), dtype=np.int16)
    return int(np.abs(moved).max()) <= _EQUAL
