"""What long work reports while it runs.

A workflow is a generator of these events that returns its result (`cnsctl.results`).

Owns names and fields; must not know who creates or prints them.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from cnsctl.errors import CnsctlError

R = TypeVar("R")

TRAIN_TOKEN, SELECT_NEURONS, TRAIN_NEURONS = "train the token embedding", "select the neurons", "train the neurons"
"""Phases of a training run: what trains and what foresees it both name them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What is expected from now to the end of the command; it replaces what was expected before."""

    phases: tuple[tuple[str, float], ...]
    """Names of phases in order, each with its rough cost. A phase that does not come is skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the work begins."""

    name: str
    """Short words for a person: "train the token embedding"."""
    total: int | None = None
    """Steps in it, if they can be counted."""
    unit: str | None = None
    """What a step is, if the name does not say it: "%"."""
    beside: float = 0.0
    """Work in it beside its steps, in steps that take as long: previews."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the current phase is done."""

    phase: str
    """Name of the phase."""
    step: int
    """Steps done in it."""
    total: int
    """Steps in it."""
    loss: float | None = None
    """Of a training step."""
    loss_first: float | None = None
    """Mean loss of the first third of the steps so far: a single loss says little."""
    loss_now: float | None = None
    """Mean loss of the last third; null in the first steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoised:
    """A part of the next step of the phase is done; an image of a large base model takes minutes on a CPU."""

    step: int
    """Denoising steps done."""
    total: int
    """Some samplers take more steps than they are asked for."""
    images: int = 1
    """Images that are generated together, each a step of the phase; 0: none of its steps, but a preview."""
    beside: float = 0.0
    """Of a preview: the steps of the phase that all of it takes as long as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Information; nothing is wrong."""

    text: str
    """For a person."""
    reason: str = ""
    """Names the case, as in errors; `cli/hints.py` maps it to advice with flags."""
    is_detail: bool = False
    """For those who want to know more: printed with `--verbose` only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warn:
    """A warning; the work continues."""

    text: str
    """For a person."""
    reason: str = ""
    """As in `Note`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selected:
    """The concept neurons are chosen."""

    neurons: int
    """K/V weights that are trained."""
    share: float
    """Of the K/V weights."""
    shared: int
    """Neurons that other concepts own too."""
    shared_random: int
    """The same for a random mask of equal size."""
    sites: Mapping[str, int] = field(repr=False)
    """Neurons per site."""
    general: Mapping[str, float] = field(repr=False)
    """Per site: share of its weights that are general neurons."""
    mask: Mapping[str, Any] = field(repr=False)
    """Per site: sorted flat indices (numpy int64)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageReady:
    """An image is complete: its file, if it has one, is whole."""

    path: str
    """Its file; `-` for stdout, empty if it is not saved."""
    seed: int
    """Of its noise."""
    prompt: str
    """As the user wrote it."""
    concepts: tuple[str, ...]
    """Concepts that the prompt names."""
    pixels: Any = field(repr=False)
    """(height, width, 3) uint8, RGB."""
    png: bytes = field(repr=False)
    """The bytes of the file, which contains how the image was made."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """A concept's images beside those of its class word, on the same prompts and seeds: `eval` measured both."""

    name: str
    """Of the concept."""
    prompts: tuple[str, ...]
    """Of each pair, as the user would write them."""
    seeds: tuple[int, ...]
    """Of each pair."""
    images: tuple[Any, ...] = field(repr=False)
    """With the concept: (height, width, 3) uint8 each, RGB."""
    plain: tuple[Any, ...] = field(repr=False)
    """With the class word alone: the same."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """Images of a concept during its training, side by side. They do not change what is trained."""

    step: int
    """Training steps that are done."""
    path: str
    """Its PNG file."""
    prompts: tuple[str, ...]
    """Of each image, from left to right: the same with the same seeds at each preview."""
    pixels: Any = field(repr=False)
    """(height, width of all, 3) uint8, RGB."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheet:
    """A contact sheet is complete."""

    path: str
    """Its PNG file."""
    pixels: Any = field(repr=False)
    """(height, width, 3) uint8, RGB."""
    strips: tuple[tuple[str, Any], ...] = field(repr=False)
    """Each row as a label and its images side by side, for a terminal in which the texts of the sheet would be blurred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """One of several inputs failed; the others continue."""

    prompt: str
    """As the user wrote it."""
    error: CnsctlError


Event = Ahead | Phase | Step | Denoised | Note | Warn | Selected | ImageReady | Compared | Preview | Sheet | Failed


def result_of(work: Generator[object, None, R]) -> R:
    """Do the work to its end; what it reports meanwhile is dropped."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: R = done.value
            return result


def within(work: Generator[float, None, R], low: float, high: float) -> Generator[float, None, R]:
    """Work that reports which share of it is done, as the part of a larger work from `low` to `high`."""
    with closing(work):
        while True:
            try:
                share = next(work)
            except StopIteration as done:
                result: R = done.value
                return result
            yield low + share * (high - low)
