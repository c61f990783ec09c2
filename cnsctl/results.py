"""Events of long work, and what commands answer.

Owns names and fields; must not know who makes or prints them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.specs import Delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the work begins."""

    name: str
    """Short words for a person: "train the token"."""
    total: int | None = None
    """Steps in it, when they can be counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the current phase is done."""

    phase: str
    step: int
    total: int
    loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something a person should know; nothing is wrong."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warn:
    """Something a person should look at; the work goes on."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selected:
    """The mask that was chosen, in numbers."""

    neurons: int
    share: float
    """Of the K/V weights."""
    sites: Mapping[str, int]
    """Neurons per site."""
    general: Mapping[str, float]
    """Per site: share of its weights that are general neurons."""
    shared: int
    """Neurons that other concepts own too."""
    shared_random: int
    """The same for a random mask of equal size."""
    mask: Mapping[str, Any]
    """Per site: sorted flat indices (numpy int64)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """A concept is learned; nothing is stored yet."""

    delta: Delta
    selected: Selected
    final_loss: float
    """Mean loss of the last fifth of the steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoised:
    """A denoising step of the images that are being generated is done; an image of a large base takes minutes on a CPU."""

    step: int
    total: int
    """Some samplers take more steps than they are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A picture is on disk (or on stdout)."""

    path: str
    seed: int
    prompt: str
    concepts: tuple[str, ...]
    picture: Any = field(default=None, compare=False, repr=False)
    """Pixels, (h, w, 3) uint8, for previews."""
    png: bytes = field(default=b"", compare=False, repr=False)
    """The file's bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """One of several inputs failed; the others go on."""

    prompt: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """The result of a command: `data` for programs, in the published format. What went wrong after it is raised."""

    data: Mapping[str, Any]


Event = Phase | Step | Note | Warn | Selected | Learned | Denoised | Drawn | Failed | Answer
