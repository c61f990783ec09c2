"""What `add` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnsctl.results.store import BaseModel, Concept, Free, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """`add`: the concept that was trained and saved."""

    store: str
    """The store's folder."""
    base: BaseModel
    """Its base model."""
    concept: Concept
    """The new concept."""
    seconds: float
    """From the start of the command."""
    others: int
    """Other concepts in the store."""
    changed: tuple[str, ...]
    """Of these, in merged mode: concepts whose keys and values this training moved. In other modes none can move."""
    shared: int
    """Neurons that other concepts own too."""
    shared_random: int
    """The same for a random mask of equal size."""
    free: Free
    """What is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedConcept:
    """One concept of a list."""

    name: str
    """From the prompt's token in the list, or the name of the folder."""
    folder: str
    """With its images."""
    class_word: str | None
    """What kind of thing it is; null if it was not trained and the list does not say it."""
    state: str
    """`trained`, `skipped` (the store has it) or `failed`."""
    images: int | None
    """Its images, if it was trained."""
    error_removed: float | None
    """Percent of the base model's denoising error that naming it removes, if it was trained."""
    verdict: Verdict | None
    """What its scores mean; null if it was not trained or measured, or if the base model is not calibrated."""
    code: str | None
    """Why it failed: one of the codes of errors."""
    exit: int
    """The exit status of this failure; 0 if there is none."""
    message: str | None
    """What failed, with the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainListResult:
    """`add --from`: every concept of the list. The exit status is that of the worst failure."""

    store: str
    """The store's folder."""
    concepts: tuple[ListedConcept, ...]
    """In the order of the list."""
