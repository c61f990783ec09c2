"""What commands return that write images and pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    """`demo`: where it wrote."""

    store: str
    """The store's folder."""
    sheet: str
    """The contact sheet, PNG."""
    concepts: tuple[str, ...]
    """On the sheet."""
