"""A store and its concepts, as most results contain them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The base model of a store."""

    name: str
    """Such as `pocket`."""
    family: str
    """Such as `sd1`."""
    fingerprint: str
    """SHA-256 over what a delta depends on: K/V weights, text encoder, tokenizer."""
    weights_kv: int
    """Weights in the K and V projections of cross-attention."""
    weights_denoiser: int
    """Weights of the denoiser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """K/V weights that no concept owns."""

    neurons: int
    """How many."""
    share: float
    """Of all K/V weights, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of a concept."""

    error_removed: float | None
    """Percent of the base model's denoising error, with the class word, that naming the concept removes."""
    clip_i: float | None
    """Mean cosine similarity of CLIP image features: generated images against the concept's images."""
    clip_t: float | None
    """Mean cosine similarity of CLIP features: generated images against the prompt with the class word."""
    backbone: str | None = None
    """The CLIP of both; null if the base model has none."""
    measured_on: int | None = None
    """How many of the concept's images error removed was measured on; null if it was not."""
    level: str | None = None
    """The images that were generated: `full`, `quick`, `preview` (not scored) or `none`; null if nothing was measured."""
    denoising_error: float | None = None
    """The base model's own, on the concept's images, without any text; null if the base model is not calibrated."""
    class_word_error: float | None = None
    """The same with the class word."""
    clip_i_real: float | None = None
    """CLIP-I of the concept's images against each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the scores of a concept mean, by the usual ranges of the base model."""

    grade: str
    """`good`, `weak`, or `bad`: the images do not show the concept."""
    reasons: tuple[str, ...]
    """What is outside its usual range, in words. Empty if the grade is `good`."""

    @property
    def words(self) -> str:
        """As one sentence without a full stop."""
        return f"{self.grade}: {'; '.join(self.reasons)}" if self.reasons else self.grade


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A concept in the store."""

    name: str
    """`<NAME>` in prompts."""
    class_word: str
    """What kind of thing it is; empty if its token embeddings stand alone."""
    tokens: int
    """Trained token embeddings that stand for it, before its class word."""
    neurons: int
    """K/V weights that it changes."""
    share: float
    """Of the K/V weights, 0 to 1."""
    share_denoiser: float
    """Of all weights of the denoiser, 0 to 1."""
    bytes: int
    """Of its delta on disk."""
    created: str
    """UTC, ISO 8601."""
    images: int
    """Its images."""
    held_out: int
    """Of these, images that were not trained on (`--holdout`)."""
    scores: Scores
    """As measured right after training; each is null if it was not measured."""
    verdict: Verdict | None
    """What they mean; null if they were not measured, or if the base model is not calibrated."""
    damaged: bool
    """Whether its delta is missing or has another size than recorded. `verify` finds every other damage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """How a training run was started: the arguments of `add` after the name."""

    images: tuple[str, ...]
    """Folders and files, with their whole paths; empty if they were too many to keep."""
    class_word: str | None
    """As given; null if it was not."""
    holdout: int
    """Images that were kept for evaluation."""
    recursive: bool
    """Whether subfolders were searched too."""
    masks: str | None
    """Folder of masks."""
    replace: bool
    """Whether it could replace a concept."""
    allow_worse: bool
    """`--allow-worse`."""
    allow_forgetting: bool
    """`--allow-forgetting`."""
    preview: bool
    """Whether images were generated after the training."""
    measure: bool
    """Whether the concept was measured after the training."""
    settings: Mapping[str, str | int | float | bool]
    """Settings that differ from their defaults, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """A training run that is not in the store."""

    name: str
    """Of the concept."""
    state: str
    """`running` or `interrupted`."""
    pid: int | None
    """Of the process that trains; null if none does."""
    host: str | None
    """The machine of that process."""
    step: int
    """Steps that are saved: the same `add` continues after them."""
    steps: int | None
    """Steps of the whole run; null until the training itself begins."""
    arguments: Arguments | None
    """How it was started; null until the training itself begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreResult:
    """`init`: the new store."""

    store: str
    """Its folder."""
    base: BaseModel
    """Its base model."""
    mode: str
    """`token`, `prompt` or `merged`."""
    free: Free
    """What concepts can still take without sharing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListResult:
    """`ls`: the concepts of a store."""

    store: str
    """Its folder."""
    base: BaseModel
    """Its base model."""
    mode: str
    """`token`, `prompt` or `merged`."""
    free: Free
    """What concepts can still take without sharing."""
    concepts: tuple[Concept, ...]
    """In training order."""
    unfinished: tuple[str, ...]
    """Names whose training is running or was interrupted."""
    runs: tuple[TrainingRun, ...]
    """These and every other training run of now."""
