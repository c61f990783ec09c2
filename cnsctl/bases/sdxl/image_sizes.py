"""The image sizes that SDXL was trained on.

Owns this list; must not know the family's other facts.
"""

from __future__ import annotations

_LANDSCAPES = (
    (512, 2048), (512, 1984), (512, 1920), (512, 1856), (576, 1792), (576, 1728), (576, 1664), (640, 1600), (640, 1536),
    (704, 1472), (704, 1408), (704, 1344), (768, 1344), (768, 1280), (832, 1216), (832, 1152), (896, 1152), (896, 1088),
    (960, 1088), (960, 1024),
)  # fmt: skip

_PORTRAITS = tuple((width, height) for height, width in _LANDSCAPES if (height, width) != (704, 1344))

IMAGE_SIZES = (*_LANDSCAPES, (1024, 1024), *_PORTRAITS)
"""Height and width in pixels, as published (SDXL, arXiv 2307.01952, appendix I)."""
