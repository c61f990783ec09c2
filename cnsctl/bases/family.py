"""What distinguishes one family of base models from another, as data.

Owns the declaration's fields; must not know the families (`bases.registry` lists them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

TRAIN_LARGE = {
    "steps": 500,
    "batch_size": 1,
    "learning_rate": 1e-5,
    "token_learning_rate": 5e-4,
    "lambda_prev": 0.05,
    "lambda_base": 0.002,
}
"""Defaults of families at 1024 × 1024 pixels, one image at a time: Custom Diffusion's 1e-5 × batch size. Not tuned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a pipeline: a folder inside the base model's folder, with the class that reads it."""

    name: str
    """Of the folder, and the key in `model_index.json`."""
    kind: str | None
    """Class of a library, such as `diffusers.AutoencoderKL`. None is a scheduler: the base model names its class."""
    weights: Literal["fp32", "stored"] | None = None
    """The precision of its weights after loading: fp32, or as the file stores them. None: it has no weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family of base models. Its declaration imports no library, so that reading a folder is fast."""

    name: str
    """Such as `sd1`; stores record it."""
    title: str
    """For people: "Stable Diffusion 1.x or 2.x"."""
    pipelines: tuple[str, ...]
    """Pipeline classes of diffusers, as `_class_name` in `model_index.json` names them."""
    parts: tuple[Part, ...]
    """What is loaded."""
    denoiser: str
    """The part that denoises; the `sample_size` of its configuration is the width of its latents."""
    decoder: str
    """The part that decodes latents; each of its blocks but one doubles the width."""
    scheduler: str = "scheduler"
    """The part with the noise schedule."""
    size: int
    """Width and height of its images, for folders that do not say it."""
    corrects_scheduler: bool
    """Its stock pipeline corrects scheduler files of 2022: `steps_offset` 1, `clip_sample` false."""
    train: Mapping[str, Any]
    """Fields of `TrainSettings` for base models without settings of their own."""
    generate: Mapping[str, Any]
    """Fields of `GenerateSettings` for base models without settings of their own."""
    adapter: str
    """The module whose `components` checks the loaded parts and puts them together; it imports the libraries."""
    text_encoders: Mapping[str, str]
    """The parts that encode text with their tokenizers, in the order in which their outputs are joined."""
    has_clip_text: bool
    """X is the outputs of CLIP's text encoders side by side, as the formats of other tools assume."""
    image_sizes: tuple[tuple[int, int], ...] = ()
    """Heights and widths of the images that the family was trained on, if they are published."""
