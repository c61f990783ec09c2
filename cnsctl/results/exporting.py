"""What `export` returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """A file, or a folder, that was written."""

    path: str
    """Where it is; `-` for stdout."""
    kind: str
    """`lora`, `weights`, `embedding`, `concept`, `bundle` or `checkpoint`."""
    concepts: tuple[str, ...]
    """Concepts in it. In merged mode, weights contain all concepts of the store."""
    bytes: int
    """Its size; of a folder, of all its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How much of a concept exported weights keep. The whole difference keeps all, and acts as much on other words."""

    name: str
    """Of the concept."""
    kept: float
    """Percent of the delta's effect on the concept's own tokens that the file has too."""
    leak: float
    """Effect of the file on other words, percent of what the whole delta would do to them."""
    error_removed: float | None
    """Percent of the denoising error that naming the concept removes, with this file on all words; null if not measured."""
    error_removed_here: float | None
    """The same in this store, on the same images."""
    measured_on: int | None
    """Of the concept's images; null if not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UseIn:
    """How the files are used in one tool."""

    tool: str
    """`ComfyUI`, `A1111 and Forge`, `InvokeAI`, `diffusers` or `cnsctl`."""
    concept: str | None
    """Its name; null if all concepts are used alike."""
    place: str
    """Where the files go."""
    type: str
    """What to type there: a prompt, or lines of Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """`export`: the files for another tool."""

    store: str
    """The store's folder."""
    format: str
    """The format of the files."""
    concepts: tuple[str, ...]
    """The concepts that were asked for, in training order."""
    files: tuple[ExportedFile, ...]
    """In the order in which they were written."""
    fidelity: tuple[Fidelity, ...]
    """Of each concept, if the format contains weights; a checkpoint's is not listed."""
    use: tuple[UseIn, ...]
    """What to do with them."""
