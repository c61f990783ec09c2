"""What passes between a store and the file formats of other programs, as arrays.

Weights are read one site at a time, when a writer or a reader needs them: those of SDXL take 1.4 GB in fp32.

Owns these values; must not know files, models or the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteWeights:
    """A site without and with the exported concepts."""

    before: NDArray[np.float32]
    """W₀, (rows, columns)."""
    after: NDArray[np.float32]
    """The weight with all exported deltas, (rows, columns)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Factors:
    """A difference of low rank: W − W₀ ≈ up · down."""

    down: NDArray[np.float32]
    """(r, columns)."""
    up: NDArray[np.float32]
    """(rows, r)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outgoing:
    """What an export writes: the concepts of one file."""

    family: str
    """Of the base model: `sd1`, `sdxl`."""
    width: int
    """Text width, columns of a site: 768, 1024 or 2048."""
    prediction: str
    """What the denoiser predicts: `epsilon` or `v_prediction`."""
    resolution: tuple[int, int]
    """Width and height in pixels that the base model was trained on."""
    shapes: Mapping[str, tuple[int, int]]
    """Per site: rows and columns. Names as in `Delta`: `down_blocks.0.….attn2.to_k`."""
    site: Callable[[str], SiteWeights]
    """Reads one site."""
    factors: Callable[[str], Factors] | None = None
    """Reads the fitted LoRA of one site."""
    vectors: Mapping[str, NDArray[np.float16]] = field(default_factory=dict)
    """Per text encoder (`text_encoder`, `text_encoder_2`): the token embeddings, (embeddings, width)."""
    token: str = ""
    """What names the concept elsewhere: `<dog>`."""
    class_word: str = ""
    """Follows the token: `<dog> dog`."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Texts that the workflow adds to the file's own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Incoming:
    """What a file of another program contains that cnsctl can hold."""

    format: str
    """Name of the format."""
    weights: Mapping[str, Callable[[], NDArray[np.float32]]]
    """Per site: reads (rows, columns), either W or W − W₀. Empty for a textual inversion."""
    shapes: Mapping[str, tuple[int, int]]
    """Per site of `weights`: rows and columns."""
    differences: bool
    """`weights` gives W − W₀ instead of W."""
    vectors: Mapping[str, NDArray[np.float32]]
    """Per text encoder: the token embeddings, (embeddings, width); empty if the file has none."""
    token: str | None = None
    """What names the concept, if the file says it."""
    also: tuple[str, ...] = ()
    """Names of the parts that the file changes too, and that cnsctl cannot hold."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Texts of the file's header, printable and of bounded length."""
