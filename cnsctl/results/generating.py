"""What commands return that write images and pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.results.measuring import Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateResult:
    """`gen`: how many images there are. Each image is an event of its own."""

    store: str
    """The store's folder."""
    generated: int
    """Images."""
    failed: int
    """Prompts that failed."""
    settings: Mapping[str, str | int | float | bool]
    """The settings of the generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryResult:
    """`gallery`: the page of all concepts."""

    store: str
    """The store's folder."""
    page: str
    """The page, HTML."""
    concepts: tuple[str, ...]
    """On the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """`demo`: where it wrote, and what it proves."""

    store: str
    """The store's folder."""
    sheet: str
    """The contact sheet, PNG."""
    images: str
    """Folder of the images that were generated for it."""
    concepts: tuple[str, ...]
    """On the sheet, in training order."""
    bytes_compared: int | None
    """Of the pixels of the first concept, generated before and after the second one was trained; null if the earlier images are missing."""
    bytes_differ: int | None
    """How many of them differ."""
    verified: tuple[Verified, ...]
    """What `verify` says about each concept."""
