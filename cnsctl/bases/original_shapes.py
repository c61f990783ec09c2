"""The configuration of a single-file checkpoint, from the shapes of its weights.

The published configuration of its version is the start; every number that the shapes contain replaces the published one.
Numbers of heads, groups and pixels are not in the shapes: these rules are those of the published models.

Owns the reading of shapes under the original (LDM) names; must not know files or libraries.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Shapes = Mapping[str, Sequence[int]]
    Config = Mapping[str, Any]

HEAD_WIDTH = 64
"""Channels of an attention head: in each published text encoder, and in the UNets of SD 2.x and SDXL."""


def unet_config(published: Config, shapes: Shapes) -> dict[str, Any]:
    """The configuration of a UNet.

    Args:
        published: of its version.
        shapes: of its weights, by the original names without a prefix.

    Raises:
        KeyError, ValueError: these are not the shapes of such a UNet.
    """
    n_inputs = _count(shapes, r"input_blocks\.(\d+)\.")
    downs = [i for i in range(n_inputs) if f"input_blocks.{i}.0.op.weight" in shapes]
    per_block = (downs[0] if downs else n_inputs) - 1
    firsts = [1, *(i + 1 for i in downs)]
    widths = [int(shapes[f"input_blocks.{i}.0.in_layers.2.weight"][0]) for i in firsts]
    depths = [_count(shapes, rf"input_blocks\.{i}\.1\.transformer_blocks\.(\d+)\.") for i in firsts]
    attention = next(key for key in sorted(shapes) if key.endswith("attn2.to_k.weight"))
    heads = published["attention_head_dim"]
    config = {
        **published,
        "in_channels": int(shapes["input_blocks.0.0.weight"][1]),
        "out_channels": int(shapes["out.2.weight"][0]),
        "block_out_channels": widths,
        "layers_per_block": per_block,
        "cross_attention_dim": int(shapes[attention][1]),
        "attention_head_dim": heads if isinstance(heads, int) else [max(1, w // HEAD_WIDTH) for w in widths],
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
    }
    if any(depth > 1 for depth in depths):
        config["transformer_layers_per_block"] = [max(1, depth) for depth in depths]
    else:
        config.pop("transformer_layers_per_block", None)
    return config


def with_time_ids(config: Config, shapes: Shapes, *, pooled: int) -> dict[str, Any]:
    """The same for SDXL, whose UNet also reads pooled text of this width, and six numbers about the image."""
    width = int(shapes["label_emb.0.0.weight"][1])
    if (width - pooled) % 6:
        raise ValueError(f"the UNet reads {width} numbers beside the text, of which {pooled} are pooled text")
    changes = {"projection_class_embeddings_input_dim": width, "addition_time_embed_dim": (width - pooled) // 6}
    return {**config, **changes}


def vae_config(published: Config, shapes: Shapes) -> dict[str, Any]:
    """The configuration of a VAE, from the shapes of its weights by the original names without a prefix."""
    n_blocks = _count(shapes, r"encoder\.down\.(\d+)\.")
    widths = [int(shapes[f"encoder.down.{i}.block.0.conv2.weight"][0]) for i in range(n_blocks)]
    return {
        **published,
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * n_blocks,
        "up_block_types": ["UpDecoderBlock2D"] * n_blocks,
        "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": int(shapes["decoder.conv_in.weight"][1]),
    }


def clip_config(published: Config, shapes: Shapes) -> dict[str, Any]:
    """The configuration of a text encoder under transformers' names, without a prefix."""
    vocabulary, width = shapes["embeddings.token_embedding.weight"]
    n_layers = _count(shapes, r"encoder\.layers\.(\d+)\.")
    inner = shapes["encoder.layers.0.mlp.fc1.weight"][0]
    positions = shapes["embeddings.position_embedding.weight"]
    return _text_config(
        published, vocabulary=vocabulary, width=width, n_layers=n_layers, inner=inner, positions=positions
    )


def open_clip_config(published: Config, shapes: Shapes, *, layers_left_out: int) -> dict[str, Any]:
    """The configuration of a text encoder under OpenCLIP's names, without a prefix.

    Args:
        published: of its version.
        shapes: of its weights.
        layers_left_out: last layers that the denoiser does not read: one in SD 2.x.
    """
    vocabulary, width = shapes["token_embedding.weight"]
    n_layers = _count(shapes, r"transformer\.resblocks\.(\d+)\.") - layers_left_out
    inner = shapes["transformer.resblocks.0.mlp.c_fc.weight"][0]
    positions = shapes["positional_embedding"]
    config = _text_config(
        published, vocabulary=vocabulary, width=width, n_layers=n_layers, inner=inner, positions=positions
    )
    if not layers_left_out and "text_projection" in shapes:
        config["projection_dim"] = int(shapes["text_projection"][1])
    return config


def _text_config(
    published: Config, *, vocabulary: int, width: int, n_layers: int, inner: int, positions: Sequence[int]
) -> dict[str, Any]:
    return {
        **published,
        "vocab_size": int(vocabulary),
        "hidden_size": int(width),
        "num_hidden_layers": n_layers,
        "intermediate_size": int(inner),
        "num_attention_heads": max(1, int(width) // HEAD_WIDTH),
        "max_position_embeddings": int(positions[0]),
    }


def _count(keys: Iterable[str], pattern: str) -> int:
    """How many numbers, from 0, the names contain at this place."""
    found = {int(match.group(1)) for match in (re.match(pattern, key) for key in keys) if match}
    return max(found) + 1 if found else 0
