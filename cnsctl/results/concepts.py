"""What commands return that show, rename or remove concepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.results.importing import Origin
    from cnsctl.results.store import Arguments, Concept, Free


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowResult:
    """`show`: everything about one concept."""

    store: str
    """Its folder."""
    concept: Concept
    """The concept."""
    recipe: Mapping[str, str | int | float | bool]
    """The settings of its training, the number of images, device and dtype."""
    arguments: Arguments | None
    """How its training was started; null if it was imported, or trained by an older version."""
    delta: str
    """File of its weights."""
    preview: str | None
    """File with the images generated right after training; null if there are none."""
    references: tuple[str, ...]
    """Files: copies of its images."""
    captions: tuple[str | None, ...]
    """Of each image, where it has one."""
    origin: Origin | None
    """Where it was imported from; null if it was trained in this store."""
    overlaps: Mapping[str, int | None] | None
    """With `--overlaps`: neurons shared with each other concept, by name; null if that one cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameResult:
    """`mv`: the two names."""

    store: str
    """The store's folder."""
    old: str
    """The name before."""
    new: str
    """The name now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveResult:
    """`rm`: what was removed."""

    store: str
    """The store's folder."""
    removed: tuple[str, ...]
    """Concepts."""
    discarded: tuple[str, ...]
    """Names whose training state was deleted."""
    touched: Mapping[str, Mapping[str, int]]
    """In merged mode, by removed concept: neurons that it shared with each later one."""
    left: tuple[str, ...]
    """Concepts that remain."""
    free: Free
    """What is free now."""
