"""What `base` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnsctl.results.store import BaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one concept may change by default."""

    neurons: int
    """K/V weights."""
    share: float
    """Of all K/V weights, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricModel:
    """A model outside the store that measures images."""

    name: str
    """Of its folder, or of its repository."""
    path: str
    """Its folder."""
    fingerprint: str
    """SHA-256 over its weights and configuration."""
    origin: str | None
    """`OWNER/NAME@COMMIT`, if it was downloaded from the hub."""
    found: bool
    """Whether the folder is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseResult:
    """`base`: the base model of a store, and where it is."""

    store: str
    """The store's folder."""
    base: BaseModel
    """Its base model."""
    place: str
    """The folder or the single file of the base model."""
    inside: bool
    """Whether the store contains the base model."""
    found: bool
    """Whether it is there. If not, what only it contains is null."""
    origin: str | None
    """`OWNER/NAME@COMMIT`, if it was downloaded from the hub."""
    bytes: int | None
    """Of the files that are loaded."""
    sites: int
    """K and V projections of cross-attention."""
    prediction: str | None
    """What the denoiser predicts: `epsilon` or `v_prediction`."""
    zero_snr: bool | None
    """Whether the noise schedule ends at zero SNR."""
    size: int | None
    """Width and height that it was trained at, in pixels."""
    budget: Budget
    """What one concept may change by default."""
    clip: MetricModel | None
    """The CLIP of CLIP-I and CLIP-T, if it is not the base model's own."""
    own_clip: bool | None
    """Whether the base model's folder contains a CLIP."""
    judge: MetricModel | None
    """The second backbone for the similarity of images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSize:
    """A part of a base model."""

    part: str
    """Its name."""
    weights: int
    """How many."""
    bytes: int
    """In the precision that it computes in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Estimated peak memory with one setting of `--memory`, in bytes."""

    memory: str
    """The setting."""
    add: int
    """A training step with the default batch size."""
    add_one: int
    """A training step with batch size 1."""
    gen: int
    """An image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateResult:
    """`base --estimate`: memory, without loading a weight."""

    name: str
    """Of the base model."""
    family: str
    """Such as `sd1`."""
    dtype: str
    """Precision of the denoiser."""
    width: int
    """Of the images, in pixels."""
    height: int
    """Of the images, in pixels."""
    batch_size: int
    """The default of `add`."""
    parts: tuple[PartSize, ...]
    """Parts with weights."""
    memory: tuple[MemoryEstimate, ...]
    """By setting."""
