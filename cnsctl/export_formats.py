"""Names of the formats in which concepts leave a store.

Owns these names; must not know how a format is written (`formats/`).
"""

from __future__ import annotations

from enum import StrEnum


class ExportFormat(StrEnum):
    """What `cnsctl export` writes."""

    LORA = "lora"
    """A LoRA that is fitted to a concept's own tokens, and its token embeddings beside it."""
    LORA_EXACT = "lora-exact"
    """The whole difference as a LoRA of full rank."""
    DIFF = "diff"
    """The whole difference as dense weights, kohya's `.diff`."""
    KV = "kv"
    """Whole K and V weights under diffusers' names."""
    CUSTOM_DIFFUSION = "custom-diffusion"
    """Whole K and V weights as diffusers' Custom Diffusion file."""
    EMBEDDING = "embedding"
    """The token embeddings alone: textual inversion."""
    NATIVE = "native"
    """The delta file itself."""
    BUNDLE = "bundle"
    """Several concepts in one file, to import into another store."""
    CHECKPOINT = "checkpoint"
    """A diffusers folder with the concepts merged into it."""


class KeyStyle(StrEnum):
    """Names of the tensors of a LoRA."""

    KOHYA = "kohya"
    """`lora_unet_down_blocks_0_…_attn2_to_k.lora_down.weight`: read by every tool."""
    DIFFUSERS = "diffusers"
    """`unet.down_blocks.0.….attn2.to_k.lora_A.weight`: read by diffusers and peft."""


DEFAULT_FORMAT = ExportFormat.LORA
DEFAULT_KEYS = KeyStyle.KOHYA
DEFAULT_RANK = 8
"""Of a fitted LoRA, chosen by measurement (docs/results/exports.md)."""
