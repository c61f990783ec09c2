"""The interface of base models that the engine uses, the same for each family.

Owns signatures only; must not know diffusers, transformers, concepts or the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cnsctl.concept import Frame
    from cnsctl.settings import GenerateSettings


class CrossAttention(Protocol):
    """The parts of diffusers' `Attention` that are used of a cross-attention layer."""

    heads: int
    rescale_output_factor: float
    residual_connection: bool
    group_norm: torch.nn.Module | None
    norm_q: torch.nn.Module | None
    norm_k: torch.nn.Module | None
    to_q: torch.nn.Module
    to_out: torch.nn.ModuleList
    processor: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A cross-attention layer with the names of its two sites."""

    attention: CrossAttention
    k: str
    v: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A concept in a text: its token embeddings, then its class word."""

    name: str
    class_word: str
    """Empty if its token embeddings stand alone."""
    n_vectors: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """How a text is read."""

    clip_skip: int = 0
    """Last layers of each CLIP text encoder that are left out."""
    long_prompts: bool = False
    """Read texts that are too long in several chunks instead of ignoring their end."""


AS_TRAINED = TextOptions()
"""How texts are read in training and in measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedText:
    """A text as the text encoders read it. At `places`, trained token embeddings replace the rows of the tables."""

    ids: Mapping[str, tuple[int, ...]]
    """Per text encoder: ids with start, end and padding; at `places` a valid placeholder."""
    places: Mapping[str, tuple[int, ...]]
    """Per text encoder: positions of the token embeddings in its ids, ascending."""
    vectors: tuple[tuple[str, int], ...]
    """For each place, in each text encoder: the concept, and the index of its token embedding."""
    spans: Mapping[str, tuple[int, ...]]
    """Per concept: positions of its own tokens in X, token embeddings and class word."""
    real: tuple[int, ...]
    """Positions in X of all tokens but start, end and padding."""
    length: int
    """Positions of X."""
    chunks: int
    """Texts that the encoder reads one by one, if the text is longer than it can read at once."""
    clip_skip: int
    """As in `TextOptions`."""
    lost: str
    """Words that do not fit into the text length; empty if all fit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextFeatures:
    """Everything of a batch of texts that reaches the denoiser."""

    x: torch.Tensor
    """X, the input of K and V: (b, t, d) fp32."""
    mask: torch.Tensor | None = None
    """(b, t) bool: positions that attention reads; None for all."""
    pooled: torch.Tensor | None = None
    """(b, p) fp32: what conditions the denoiser beside cross-attention; None if nothing does."""

    def rows(self, rows: Sequence[int]) -> TextFeatures:
        """The features of these texts, in this order, each as often as it is named."""
        return self.each(lambda tensor: tensor[list(rows)])

    def conditions(self, dtype: torch.dtype) -> TextFeatures:
        """The same for a denoiser that computes in another dtype; X, which it does not read, is left as it is."""
        pooled = None if self.pooled is None else self.pooled.to(dtype)
        return TextFeatures(x=self.x, mask=self.mask, pooled=pooled)

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> TextFeatures:
        """The same change of every tensor."""
        mask, pooled = (None if tensor is None else change(tensor) for tensor in (self.mask, self.pooled))
        return TextFeatures(x=change(self.x), mask=mask, pooled=pooled)


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
    """SHA-256 over the sites, the text encoders and the tokenizers' meaning, rounded to fp16."""
    part_hashes: Mapping[str, str] | None
    """SHA-256 over every other weight and setting, by part: denoiser, decoder, scheduler; None without `hash_weights`."""
    device: torch.device
    dtype: torch.dtype
    layers: Sequence[Layer]
    """Cross-attention layers in a fixed order."""
    sites: Mapping[str, torch.Tensor]
    """W₀ of each site, (rows, columns) fp32 on `device`; never written to. To save memory, cast when it is read."""
    shapes: Mapping[str, tuple[int, int]]
    """Rows and columns of each site."""
    stacked_sites: torch.Tensor | None
    """The same memory as one matrix, (Σ rows, columns): the sites in order, one below the other.

    None if memory is saved.
    """
    biases: Mapping[str, torch.Tensor]
    """Bias of each site that has one, (rows,) fp32: K = X·Wᵀ + b. A delta does not change it."""
    stacked_biases: torch.Tensor | None
    """The same as one vector, (Σ rows,), with zeros for sites without; None if no site has one."""
    vector_widths: Mapping[str, int]
    """Per text encoder: width of a token embedding."""
    denoiser_weights: int
    size: int
    """Training resolution: width and height in pixels of a square image."""

    @property
    def train_defaults(self) -> Mapping[str, float | int]: ...

    @property
    def generate_defaults(self) -> GenerateSettings: ...

    def tokenize(
        self, pieces: Sequence[str | Slot], options: TextOptions = AS_TRAINED, *, chunks: int = 1
    ) -> TokenizedText:
        """Tokenize a text in pieces. Without a concept, the ids are those of the stock tokenizer.

        Args:
            pieces: words, and concepts between them.
            options: how to read the text.
            chunks: read at least so many chunks, to match the length of another text.

        Raises:
            UsageError: a concept does not fit into the text length.
        """
        ...

    def embeddings(self, words: str) -> Mapping[str, torch.Tensor]:
        """Per text encoder: rows of its table for the tokens of these words, (tokens, width) fp32."""
        ...

    def encode(self, texts: Sequence[TokenizedText], vectors: Mapping[str, torch.Tensor]) -> TextFeatures:
        """Encode texts of one length in one pass; differentiable with respect to `vectors`.

        Args:
            texts: with the same `length` and `clip_skip`.
            vectors: per text encoder, the token embeddings at the places of all texts in order, (places, width) fp32;
                empty if no text has a place.
        """
        ...

    def without_text(self, chunks: int = 1) -> TextFeatures | None:
        """What an empty negative prompt is read as, (1, …); None if it is encoded like any other text."""
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

    def bind(self, keys_values: Mapping[str, torch.Tensor], features: TextFeatures) -> AbstractContextManager[None]:
        """Let the denoiser read these K and V, (b, t, rows) per site, and the rest of these features.

        At the end the stock attention processors are installed again.
        """
        ...

    def denoise(self, noisy: torch.Tensor, times: torch.Tensor, frames: Sequence[Frame] | None = None) -> torch.Tensor:
        """Run the denoiser on the text that is bound; (b, c, h, w) fp32.

        Args:
            noisy: latents (b, c, h, w).
            times: (b,) int64.
            frames: of the images; None for whole images of this size.
        """
        ...

    def check_sampler(self, settings: GenerateSettings) -> None:
        """Refuse settings that `sample` cannot run, without running the denoiser.

        Raises:
            UsageError: the sampler does not support the schedule, or this number of steps.
        """
        ...

    def sample(self, settings: GenerateSettings, generators: Sequence[torch.Generator]) -> Iterator[Sample]:
        """Denoise one image per generator as the stock pipeline does; call each step with the text bound.

        With guidance, twice as many texts are bound as there are images, the negative prompts first.

        Args:
            settings: of the generation.
            generators: on the CPU; one per image, for its noise.
        """
        ...

    def decode_latents(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """Latents (c, h/8, w/8) of one image → (h, w, 3) uint8."""
        ...
