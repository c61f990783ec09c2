"""Names of cross-attention weights in the files of other programs.

One table of patterns serves both directions: `KeyTable.name` to write, `KeyTable.site` to read. A site's own name is that
of diffusers, without `.weight`: `down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k`.

Owns the patterns; must not know tensors or files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Stem(StrEnum):
    """How a site is called, before the name of what a file holds of it."""

    DIFFUSERS = "diffusers"
    DIFFUSERS_PROCESSOR = "diffusers, processor"
    UNET = "unet"
    UNET_PROCESSOR = "unet, processor"
    PEFT = "peft"
    PEFT_UNET = "peft, unet"
    KOHYA = "kohya"
    KOHYA_ORIGINAL = "kohya, original"
    LYCORIS = "lycoris"
    ORIGINAL = "original"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pattern:
    prefix: str = ""
    original: bool = False
    """The names of the original implementation (LDM) instead of diffusers'."""
    separator: str = "."
    processor: bool = False
    """The weight belongs to the processor of its attention layer."""


_PATTERNS: Mapping[Stem, _Pattern] = {
    Stem.DIFFUSERS: _Pattern(),
    Stem.DIFFUSERS_PROCESSOR: _Pattern(processor=True),  # Custom Diffusion, and LoRA of early diffusers
    Stem.UNET: _Pattern(prefix="unet."),
    Stem.UNET_PROCESSOR: _Pattern(prefix="unet.", processor=True),
    Stem.PEFT: _Pattern(prefix="base_model.model."),
    Stem.PEFT_UNET: _Pattern(prefix="base_model.model.unet."),
    Stem.KOHYA: _Pattern(prefix="lora_unet_", separator="_"),
    Stem.KOHYA_ORIGINAL: _Pattern(prefix="lora_unet_", original=True, separator="_"),
    Stem.LYCORIS: _Pattern(prefix="lycoris_", separator="_"),
    Stem.ORIGINAL: _Pattern(prefix="diffusion_model.", original=True),
    Stem.CHECKPOINT: _Pattern(prefix="model.diffusion_model.", original=True),
}

_PLACE = re.compile(r"(down_blocks|mid_block|up_blocks)(?:\.(\d+))?\.attentions\.(\d+)\.(.+)")
"""Where an attention layer is in a UNet of diffusers."""

_KEYS_VALUES = re.compile(r"(?:.*[._])?(attn2|cross_attn)[._](?:processor\.)?(?:to_)?[kv](?:_proj)?")
"""K or V of a cross-attention layer, in any of the styles and of any base model, by `fullmatch`."""

_PUBLISHED_LAYERS = 2
"""Layers per block of the UNets of Stable Diffusion 1.x, 2.x and XL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTable:
    """The names of the sites of one base model in every style."""

    names: Mapping[tuple[Stem, str], str]
    """Per style and site; without those that a style has no name for."""
    sites: Mapping[str, str]
    """Per name in any style: the site."""

    def name(self, stem: Stem, site: str) -> str:
        """What a site is called in a style."""
        return self.names[stem, site]

    def site(self, name: str) -> str | None:
        """The site that has this name in some style."""
        return self.sites.get(name)


def key_table(sites: Iterable[str]) -> KeyTable:
    """The table for the sites of a base model."""
    sites = tuple(sites)
    layers = layers_per_block(sites)
    names = {
        (stem, site): name
        for stem, pattern in _PATTERNS.items()
        for site in sites
        if (name := _name(pattern, site, layers)) is not None
    }
    return KeyTable(names=names, sites={name: site for (_, site), name in names.items()})


def _name(pattern: _Pattern, site: str, layers: int) -> str | None:
    path: str | None = original_name(site, layers) if pattern.original else site
    if path is None:
        return None
    if pattern.processor:
        layer, _, projection = path.rpartition(".")
        path = f"{layer}.processor.{projection}"
    return pattern.prefix + path.replace(".", pattern.separator)


def original_name(site: str, layers: int) -> str | None:
    """The name in the original implementation: `input_blocks.1.1.transformer_blocks.0.attn2.to_k`.

    The original numbers the layers of all blocks in one row. A block has `layers` of them on the way down and then a
    downsampler, and one more on the way up. The convolution at the input is number 0.

    Returns:
        None for a site outside such a UNet.
    """
    found = _PLACE.fullmatch(site)
    if not found:
        return None
    half, block, layer, rest = found[1], found[2], int(found[3]), found[4]
    if half == "mid_block":
        return f"middle_block.1.{rest}" if block is None and layer == 0 else None
    if block is None:
        return None
    row = int(block) * (layers + 1) + layer
    return f"input_blocks.{row + 1}.1.{rest}" if half == "down_blocks" else f"output_blocks.{row}.1.{rest}"


def layers_per_block(sites: Iterable[str]) -> int:
    """How many layers a block of a UNet has on the way down, from the names of its sites."""
    last = {"down_blocks": -1, "up_blocks": -1}
    for site in sites:
        found = _PLACE.fullmatch(site)
        if found and found[1] in last:
            last[found[1]] = max(last[found[1]], int(found[3]))
    if last["down_blocks"] >= 0:
        return last["down_blocks"] + 1
    return last["up_blocks"] if last["up_blocks"] > 0 else _PUBLISHED_LAYERS


def self_attention_processor(site: str) -> str | None:
    """What diffusers calls the processor of the self-attention beside a site, or None if there is none."""
    layer, _, _ = site.rpartition(".")
    block, _, attention = layer.rpartition(".")
    return f"{block}.attn1.processor" if attention == "attn2" else None


def is_keys_or_values(stem: str) -> bool:
    """Has a name the form of K or V of a cross-attention layer, of whatever base model?"""
    return _KEYS_VALUES.fullmatch(stem) is not None


class Leaf(StrEnum):
    """What a tensor is of the weight whose name precedes it."""

    DOWN = "down"
    UP = "up"
    ALPHA = "alpha"
    DIFFERENCE = "difference"
    WHOLE = "whole"
    OTHER = "other"


LEAVES: Mapping[str, Leaf] = {
    ".lora_down.weight": Leaf.DOWN,
    ".lora_up.weight": Leaf.UP,
    ".lora_A.weight": Leaf.DOWN,
    ".lora_B.weight": Leaf.UP,
    ".lora_A.default.weight": Leaf.DOWN,
    ".lora_B.default.weight": Leaf.UP,
    ".lora_A.default_0.weight": Leaf.DOWN,
    ".lora_B.default_0.weight": Leaf.UP,
    ".lora_linear_layer.down.weight": Leaf.DOWN,
    ".lora_linear_layer.up.weight": Leaf.UP,
    ".lora.down.weight": Leaf.DOWN,
    ".lora.up.weight": Leaf.UP,
    "_lora.down.weight": Leaf.DOWN,
    "_lora.up.weight": Leaf.UP,
    "_lora.alpha": Leaf.ALPHA,
    ".lora.alpha": Leaf.ALPHA,
    ".alpha": Leaf.ALPHA,
    ".diff": Leaf.DIFFERENCE,
    "_custom_diffusion.weight": Leaf.WHOLE,
    ".weight": Leaf.WHOLE,
}
"""What names of tensors end with. A longer ending precedes a shorter one that it contains."""

ALGORITHMS: Mapping[str, str] = {
    ".hada_w1_a": "LoHa",
    ".lokr_w1": "LoKr",
    ".lokr_w1_a": "LoKr",
    ".oft_blocks": "OFT",
    ".oft_diag": "OFT",
    ".dora_scale": "DoRA",
    ".lora_magnitude_vector": "DoRA",
    ".lora_magnitude_vector.weight": "DoRA",
    ".lora_magnitude_vector.default.weight": "DoRA",
    ".a1.weight": "GLoRA",
    ".on_input": "IA³",
}
"""Endings of the tensors of other adapters than LoRA: the name of the method."""


def is_adapter(key: str) -> bool:
    """Is a tensor of this name a part of an adapter: of a LoRA, or of another method?"""
    return split(key)[1] in {Leaf.DOWN, Leaf.UP} or key.endswith(tuple(ALGORITHMS)) or "_custom_diffusion" in key


def split(key: str) -> tuple[str, Leaf]:
    """The name of a weight, and what a tensor is of it."""
    for ending, leaf in LEAVES.items():
        if key.endswith(ending):
            return key[: -len(ending)], leaf
    return key.rpartition(".")[0] or key, Leaf.OTHER
