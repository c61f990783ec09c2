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
    kept: int
    """Images that existed already: `--skip-existing`."""
    failed: int
    """Prompts that failed."""
    sheet: str | None
    """The contact sheet, PNG; null if none was asked for."""
    settings: Mapping[str, str | int | float | bool]
    """The settings of the generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeOn:
    """The base model of an image."""

    name: str
    """As its folder or file."""
    fingerprint: str
    """Of its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How an image was generated, as its file records it."""

    version: str
    """Of cnsctl."""
    prompt: str
    """As the user wrote it."""
    negative_prompt: str
    """Empty if there was none."""
    seed: int
    """Of its noise."""
    concepts: Mapping[str, str]
    """By name: the SHA-256 of the delta of each concept that acted."""
    base: MadeOn
    """The base model."""
    mode: str
    """Of the store."""
    settings: Mapping[str, str | int | float | bool]
    """All settings of the generation: sampler, steps, guidance scale, width and height, and the others."""
    device: str
    """Kind of device: `cuda`, `mps`, `cpu`."""
    dtype: str
    """Precision of the denoiser."""
    memory: str
    """What was saved; `auto` is nothing."""
    batch_size: int
    """Images that were generated together with it, itself included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What one image file records."""

    path: str
    """As given."""
    kind: str | None
    """Its format, such as `PNG`; null if it is not an image."""
    width: int | None
    """Pixels; null if the file cannot be read."""
    height: int | None
    """The same."""
    made: Made | None
    """How it was generated; null if the file does not record it."""
    sheet: bool
    """It is a contact sheet of cnsctl."""
    texts: tuple[str, ...]
    """Names of other texts in a PNG file, which other programs wrote."""
    problem: str | None
    """Why the file, or its record, cannot be read; null if it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoResult:
    """`info`: what image files record."""

    images: tuple[ImageFacts, ...]
    """In the order given."""


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
