"""The interface of base models that the engine uses, the same for each family.

Owns signatures only; must not know diffusers, transformers, concepts or the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cnsctl.settings import GenerateSettings


class CrossAttention(Protocol):
    """The parts of diffusers' `Attention` that are used of a cross-attention layer."""

    heads: int
    rescale_output_factor: float
    residual_connection: bool
    to_q: torch.nn.Module
    to_out: torch.nn.ModuleList
    processor: object

    def set_processor(self, processor: object) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A cross-attention layer with the names of its two sites."""

    attention: CrossAttention
    k: str
    v: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextBatch:
    """Texts as token ids, with the positions of trained token embeddings.

    `ids` is valid at every position, also where an embedding replaces the table's row: the tokenizer and its table do not
    change.
    """

    ids: torch.Tensor
    """(b, t) int64, with start, end and padding."""
    places: torch.Tensor
    """(b, t) bool: positions of trained token embeddings."""
    vectors: Mapping[str, torch.Tensor]
    """Per text encoder: (places.sum(), width) fp32, in row-major order of `places`; may require a gradient."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """A batch of images after a denoising step."""

    step: int
    """From 1."""
    total: int
    latents: torch.Tensor
    """(b, c, h/8, w/8) in the base model's dtype."""


class Base(Protocol):
    """A frozen base model. Its weights never change, in memory or on disk."""

    family: str
    name: str
    fingerprint: str
    """SHA-256 over the sites, the text encoders and the tokenizer's meaning, rounded to fp16."""
    weights_hash: str | None
    """SHA-256 over every other weight and the scheduler's settings; None if loaded without `hash_weights`."""
    device: torch.device
    dtype: torch.dtype
    layers: Sequence[Layer]
    """Cross-attention layers in a fixed order."""
    sites: Mapping[str, torch.Tensor]
    """W₀ of each site, (rows, columns) fp32 on `device`; never written to."""
    stacked_sites: torch.Tensor
    """The same memory as one matrix, (Σ rows, columns): the sites in order, one below the other."""
    text_length: int
    """Positions of a text, start and end included."""
    vector_widths: Mapping[str, int]
    """Per text encoder: width of a token embedding."""
    denoiser_weights: int
    size: int
    """Training resolution: width and height in pixels."""

    @property
    def train_defaults(self) -> Mapping[str, float | int]: ...

    @property
    def generate_defaults(self) -> GenerateSettings: ...

    def token_ids(self, text: str) -> list[int]:
        """Ids of a text without start, end, padding or truncation."""
        ...

    def token_text(self, ids: Sequence[int]) -> str: ...

    def frame(self, ids: Sequence[int]) -> list[int]:
        """Add start, end and padding to ids that fit: `text_length` ids."""
        ...

    def embeddings(self, ids: Sequence[int]) -> Mapping[str, torch.Tensor]:
        """Per text encoder: the table's rows, (len(ids), width) fp32."""
        ...

    def text_features(self, batch: TextBatch) -> torch.Tensor:
        """X, the input of K and V: (b, t, d) fp32; differentiable with respect to `batch.vectors`."""
        ...

    def encode_images(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """(n, h, w, 3) uint8 → latents (n, c, h/8, w/8) fp32 on the CPU, mean of the posterior, scaled."""
        ...

    def noised(
        self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents at times (b,) int64, and the denoiser's target in its own parameterization."""
        ...

    @property
    def n_times(self) -> int: ...

    def denoise(self, noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Run the denoiser with the K and V that are bound to its layers; (b, c, h, w) fp32."""
        ...

    def check_sampler(self, settings: GenerateSettings) -> None:
        """Refuse settings that `sample` cannot run, without running the denoiser.

        Raises:
            UsageError: the sampler does not support the schedule, or this number of steps.
        """
        ...

    def sample(
        self, text: torch.Tensor, settings: GenerateSettings, generators: Sequence[torch.Generator]
    ) -> Iterator[Sample]:
        """Denoise one image per generator with the K and V that are bound, step by step as the stock pipeline does.

        Args:
            text: X, (b, t, d); with guidance (2b, t, d), the negative prompts first.
            settings: of the generation.
            generators: on the CPU; one per image, for its noise.
        """
        ...

    def decode_latents(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """Latents (c, h/8, w/8) of one image → (h, w, 3) uint8."""
        ...
