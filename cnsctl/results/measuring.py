"""What commands return that score, verify and measure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cnsctl.results.json_object import ONLY_IF_SET

if TYPE_CHECKING:
    from cnsctl.results.store import BaseModel, Scores, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What would be selected in one K or V projection."""

    site: str
    """Its name."""
    neurons: int
    """Selected."""
    weights: int
    """Of so many."""
    general: float
    """Share that are general neurons, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """`score`: what `add` would select."""

    store: str
    """The store's folder."""
    base: BaseModel
    """Its base model."""
    name: str
    """Of the concept."""
    class_word: str
    """What kind of thing it is."""
    neurons: int
    """K/V weights that it would change."""
    share: float
    """Of the K/V weights, 0 to 1."""
    share_denoiser: float
    """Of all weights of the denoiser, 0 to 1."""
    mask: str
    """SHA-256 of the selection; `add` with the same settings selects the same."""
    sites: tuple[Site, ...]
    """By K or V projection."""
    shared: int
    """Neurons that other concepts own."""
    shared_random: int
    """The same for a random mask of equal size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The proof of one concept."""

    name: str
    """Of the concept."""
    unchanged: bool | None
    """Whether everything that enters its keys and values, and these themselves, are as recorded; null if not checked."""
    moved: float | None
    """Relative change of keys and values; null if it is not finite or the concept cannot be read."""
    lost: float | None
    """In merged mode, if other deltas moved it: points of error removed lost since training."""
    forgotten: bool | None
    """Changed, or in merged mode lost more than 5 points: the exit status is 7. Null if not checked."""
    damaged: bool
    """Cannot be read: the exit status is 6."""
    reasons: tuple[str, ...]
    """What changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """`verify`: the proofs."""

    store: str
    """The store's folder."""
    base: BaseModel
    """Its base model."""
    mode: str
    """`token`, `prompt` or `merged`."""
    device: str
    """Where it was computed."""
    dtype: str
    """In which precision."""
    concepts: tuple[Verified, ...]
    """In training order."""
    base_changed: tuple[str, ...] = ()
    """Parts of the base model that changed since a concept was trained, without reading concepts: decoder, scheduler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Similarity of images by a second backbone."""

    backbone: str
    """Its name and fingerprint."""
    images: float
    """Mean cosine similarity of its features: four generated images against the concept's images."""
    images_class: float
    """The same for images generated with the class word alone."""
    images_real: float | None
    """The same for the concept's images against each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The measurement of one concept, on its held-out images, or else on all of them."""

    name: str
    """Of the concept."""
    held_out: int
    """Images that were not trained on."""
    error_removed: float
    """Percent of the base model's denoising error, with the class word, that naming the concept removes."""
    error_removed_spread: float
    """Its standard deviation over three noise seeds."""
    measured_on: int
    """How many of the concept's images these were measured on."""
    level: str | None
    """The images that were generated, as after training: `full` or `quick`; null with `--no-images`."""
    clip_i: float | None
    """Mean cosine similarity of CLIP image features: the generated images against the concept's images."""
    clip_i_class: float | None
    """The same for images generated with the class word alone."""
    clip_i_real: float | None
    """The same for the concept's images against each other."""
    clip_t: float | None
    """Mean cosine similarity of CLIP features: the generated images against the prompt with the class word."""
    clip_t_class: float | None
    """The same for images generated with the class word alone."""
    backbone: str | None
    """The CLIP; null if the base model has none, or with `--no-images`."""
    denoising_error: float | None
    """The base model's own, on the concept's images, without any text; null if the base model is not calibrated."""
    class_word_error: float | None
    """The same with the class word."""
    verdict: Verdict | None
    """What these scores mean; null if the base model is not calibrated."""
    trained: Scores
    """As measured right after training."""
    forgetting: Scores
    """Those minus now; null where either was not measured, or where they were measured in different ways."""
    judge: Judged | None = field(default=None, metadata={ONLY_IF_SET: True})
    """By the store's second backbone. The key is there only if the store has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How ten images without a concept differ from those of the base model."""

    images: int
    """Compared."""
    changed: int
    """With any difference."""
    mean_abs: float
    """Mean absolute difference, of 255 levels."""
    max_abs: float
    """Largest difference, of 255 levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateResult:
    """`eval`: the measurements."""

    store: str
    """The store's folder."""
    base: BaseModel
    """Its base model."""
    mode: str
    """`token`, `prompt` or `merged`."""
    device: str
    """Where it was computed."""
    dtype: str
    """In which precision."""
    concepts: tuple[Evaluated, ...]
    """In training order."""
    damaged: tuple[str, ...]
    """Concepts that cannot be read: the exit status is 6."""
    without_images: tuple[str, ...]
    """Imported concepts, which have no images to measure them with."""
    drift: Drift | None
    """Null with `--no-images`."""
