"""What `import` returns, and where an imported concept comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnsctl.results.store import Concept, Free


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginFile:
    """A file that a concept was imported from."""

    name: str
    """Without its folder."""
    sha256: str
    """Of its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an imported concept comes from."""

    format: str
    """Name of the format of the file."""
    files: tuple[OriginFile, ...]
    """The file, and the file of its token embeddings if that is another one."""
    scored: bool
    """Whether `add` selected its neurons by scoring. Neurons of other programs' files are the largest changes."""
    error: float | None
    """Relative error of the keys and values of its own tokens, by keeping only the largest changes; in prompt mode, of all
    tokens of its prompts. Null if all changes are kept."""
    lost: float | None
    """With `--kv-only`: share of the norm of the file's changes that is left out, 0 to 1; null if nothing is, or if it
    cannot be computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedConcept:
    """A concept of an imported file."""

    concept: Concept
    """As it is in the store."""
    origin: Origin | None
    """Where it comes from; null if it was trained in this store and is unchanged."""
    state: str
    """`imported`, `replaced` (a concept of this name), or `unchanged` (the store had it already)."""
    left_out: tuple[str, ...]
    """With `--kv-only`: names of the layers that the file changes too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """`import`: the concepts of a file."""

    store: str
    """The store's folder."""
    concepts: tuple[ImportedConcept, ...]
    """In the order of the file."""
    free: Free
    """What is left."""
