"""What a safetensors file contains, by the keys and shapes in its header.

Owns the marks of each kind of file; must not know libraries or folders. A loader and an error message use one list.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from cnsctl.key_names import is_adapter, is_keys_or_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Shapes = Mapping[str, Sequence[int]]


class Kind(StrEnum):
    """What a file of weights is."""

    SD1 = "sd1 checkpoint"
    SD2 = "sd2 checkpoint"
    SDXL = "sdxl checkpoint"
    REFINER = "sdxl refiner"
    INPAINTING = "inpainting"
    EDITING = "image editing"
    OTHER_INPUT = "other input"
    LCM = "lcm"
    PLAYGROUND = "playground"
    FLUX = "flux"
    SD3 = "sd3"
    OTHER_TRANSFORMER = "other transformer"
    LORA = "lora"
    KEYS_VALUES = "k and v weights"
    CONTROLNET = "controlnet"
    ADAPTER = "adapter"
    EMBEDDING = "embedding"
    CONCEPT = "cnsctl concept"
    VAE = "vae"
    TEXT_ENCODER = "text encoder"
    UNET = "unet (diffusers names)"
    UNET_ORIGINAL = "unet (original names)"
    MOTION = "motion module"
    UNKNOWN = "unknown"


CHECKPOINTS: frozenset[Kind] = frozenset({Kind.SD1, Kind.SD2, Kind.SDXL})
"""Whole models in one file, under the names of the original implementation: a base model can be made of them."""

TITLES: Mapping[Kind, str] = {
    Kind.SD1: "a checkpoint of Stable Diffusion 1.x",
    Kind.SD2: "a checkpoint of Stable Diffusion 2.x",
    Kind.SDXL: "a checkpoint of Stable Diffusion XL",
    Kind.REFINER: "a checkpoint of the Stable Diffusion XL refiner",
    Kind.INPAINTING: "an inpainting checkpoint",
    Kind.EDITING: "a checkpoint that edits images (InstructPix2Pix)",
    Kind.OTHER_INPUT: "a checkpoint whose UNet needs more than text and latents",
    Kind.LCM: "an LCM-distilled checkpoint",
    Kind.PLAYGROUND: "a checkpoint of Playground 2.5",
    Kind.FLUX: "a FLUX model",
    Kind.SD3: "a Stable Diffusion 3 model",
    Kind.OTHER_TRANSFORMER: "a diffusion transformer of another family",
    Kind.LORA: "a LoRA",
    Kind.KEYS_VALUES: "K and V weights alone",
    Kind.CONTROLNET: "a ControlNet",
    Kind.ADAPTER: "a T2I-Adapter or IP-Adapter",
    Kind.EMBEDDING: "a textual inversion embedding",
    Kind.CONCEPT: "a concept of cnsctl",
    Kind.VAE: "a VAE alone",
    Kind.TEXT_ENCODER: "a text or image encoder alone",
    Kind.UNET: "a UNet alone",
    Kind.UNET_ORIGINAL: "a UNet alone",
    Kind.MOTION: "a motion module (AnimateDiff)",
    Kind.UNKNOWN: "a file of unknown contents",
}
"""Each kind in a sentence after "is"."""

REASONS: Mapping[Kind, str] = {
    Kind.REFINER: "the refiner completes images of another model; it does not generate from text alone",
    Kind.INPAINTING: "its denoiser takes 9 channels: a mask and a masked image beside the latents",
    Kind.EDITING: "its denoiser takes 8 channels: an image beside the latents",
    Kind.OTHER_INPUT: "a depth map, an image embedding or a small image enters its denoiser",
    Kind.LCM: "its denoiser takes a guidance embedding, which K and V do not contain",
    Kind.PLAYGROUND: "its latents are normalized and its noise schedule is that of EDM",
    Kind.FLUX: "text and image share each attention layer, so K and V of the text depend on the image",
    Kind.SD3: "text and image share each attention layer, so K and V of the text depend on the image",
    Kind.OTHER_TRANSFORMER: "this family is not supported yet",
    Kind.LORA: "a LoRA changes a base model, but does not contain one",
    Kind.KEYS_VALUES: "K and V weights are a part of a base model; the rest of it is missing",
    Kind.CONTROLNET: "a ControlNet guides a base model, but does not contain one",
    Kind.ADAPTER: "an adapter guides a base model, but does not contain one",
    Kind.EMBEDDING: "an embedding is a word for a base model, but does not contain one",
    Kind.CONCEPT: "a concept changes a base model, but does not contain one",
    Kind.VAE: "a base model also needs a UNet, a text encoder and a tokenizer",
    Kind.TEXT_ENCODER: "a base model also needs a UNet and a VAE",
    Kind.UNET: "a base model also needs a text encoder, a tokenizer and a VAE",
    Kind.UNET_ORIGINAL: "a base model also needs a text encoder and a VAE",
    Kind.MOTION: "a motion module extends a base model, but does not contain one",
    Kind.UNKNOWN: "its keys belong to no known kind of file",
}
"""Why each kind of file cannot be a base model."""

UNET_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
"""What precedes the original names of a denoiser: in checkpoints, in files of the denoiser alone."""

_TRANSFORMERS = (
    "transformer_blocks.0.attn2.to_k.weight",  # PixArt, Anima, Wan, Hunyuan under diffusers' names
    "joint_transformer_blocks.0.attn.to_q.weight",
    "double_layers.0.attn.w2q.weight",  # AuraFlow
    "blocks.0.cross_attn.k_proj.weight", "blocks.0.cross_attn.k.weight", "blocks.0.cross_attn.kv_linear.weight",
    "blocks.0.attn.qkv_x.weight", "layers.0.adaLN_modulation.0.weight", "cap_embedder.0.weight", "patchify_proj.weight",
    "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias", "txt_in.text_norm.weight",
    "txtfusion.projector.weight", "transformer_blocks.0.img_mod.1.weight", "context_refiner.0.attention.to_k.weight",
    "double_stream_blocks.0.block.adaLN_modulation.1.bias", "clip_txt_mapper.weight", "down_blocks.1.0.channelwise.0.weight",
    "early_stream_modulations.image.lin.weight",
)  # fmt: skip

TEXT_WIDTHS: Mapping[int, Kind] = {768: Kind.SD1, 1024: Kind.SD2, 2048: Kind.SDXL, 1280: Kind.REFINER}
"""Width of the text features that a denoiser reads: the columns of its K and V projections."""


def recognize(shapes: Shapes) -> Kind:
    """What the file with this header is, by key → shape."""
    return next((kind for kind, holds in _MARKS if holds(shapes)), Kind.UNKNOWN)


class Parts(NamedTuple):
    """The parts of a single-file checkpoint: the prefix of their keys, None for each that is missing."""

    unet: str | None
    vae: str | None
    text_encoder: str | None
    text_encoder_2: str | None


def parts_of(shapes: Shapes) -> Parts:
    """Where the parts of a single-file checkpoint are."""

    def first(*prefixes: str) -> str | None:
        return next((p for p in prefixes if any(key.startswith(p) for key in shapes)), None)

    unet = _unet_prefix(shapes)
    xl = first("conditioner.embedders.0.transformer.")
    return Parts(
        unet=unet,
        vae=first("first_stage_model."),
        text_encoder=xl or first("cond_stage_model.transformer.", "cond_stage_model.model."),
        text_encoder_2=first("conditioner.embedders.1.model.") if xl else first("conditioner.embedders.0.model."),
    )


def _unet_prefix(shapes: Shapes) -> str | None:
    """What precedes `input_blocks.0.0.weight`, or None: the file contains no UNet under its original names."""
    return next((prefix for prefix in UNET_PREFIXES if f"{prefix}input_blocks.0.0.weight" in shapes), None)


def _original(shapes: Shapes) -> Kind | None:
    """The kind of a file with a UNet under its original names."""
    prefix = _unet_prefix(shapes)
    if prefix is None:
        return None
    channels = tuple(shapes[f"{prefix}input_blocks.0.0.weight"])[1:2]
    outputs = tuple(shapes.get(f"{prefix}out.2.weight", ()))[:1]
    found = _by_width(shapes, prefix) or _by_encoders(shapes)
    has_labels = any(key.startswith(f"{prefix}label_emb.") for key in shapes)
    without_labels = found in {Kind.SD1, Kind.SD2}
    parts = parts_of(shapes)
    has_others = bool(parts.vae or parts.text_encoder or parts.text_encoder_2)
    marks = {
        Kind.INPAINTING: channels == (9,),
        Kind.EDITING: channels == (8,) and outputs == (4,),
        Kind.LCM: f"{prefix}time_embed.cond_proj.weight" in shapes,
        Kind.PLAYGROUND: "edm_mean" in shapes,
        Kind.OTHER_INPUT: without_labels and (has_labels or channels in {(5,), (7,)}),  # unCLIP, depth, upscaler
        Kind.REFINER: found is Kind.REFINER,
        Kind.UNET_ORIGINAL: found is None or not has_others,
    }
    return next((kind for kind, holds in marks.items() if holds), found)


def _by_width(shapes: Shapes, prefix: str) -> Kind | None:
    """By the width of the text features that it reads."""
    widths = (
        shape[-1] for key, shape in shapes.items() if key.startswith(prefix) and key.endswith("attn2.to_k.weight")
    )
    return TEXT_WIDTHS.get(next(widths, 0))


def _by_encoders(shapes: Shapes) -> Kind | None:
    """By the text encoders beside it, if its width is of no published model."""
    marks = {
        "conditioner.embedders.0.transformer.": Kind.SDXL,
        "conditioner.embedders.0.model.": Kind.REFINER,
        "cond_stage_model.transformer.": Kind.SD1,
        "cond_stage_model.model.": Kind.SD2,
    }
    return next((kind for mark, kind in marks.items() if any(key.startswith(mark) for key in shapes)), None)


def _embedding(shapes: Shapes) -> bool:
    """One or two small tables, and nothing else: of diffusers, kohya or A1111."""
    tables = [tuple(shape) for key, shape in shapes.items() if key not in {"step", "string_to_token.*"}]
    return 0 < len(tables) <= 2 and all(len(shape) in {1, 2} and shape[-1] in TEXT_WIDTHS for shape in tables)


def _keys_values(shapes: Shapes) -> bool:
    """K and V of cross-attention, and nothing else but token embeddings."""
    weights = [key for key in shapes if not key.startswith("modifier_token.")]
    return bool(weights) and all("attn2" in key and is_keys_or_values(key.removesuffix(".weight")) for key in weights)


def _has(*marks: str) -> Callable[[Shapes], bool]:
    """Does a key end with one of these names, at a dot or at its start?"""
    ends = tuple(f".{mark}" for mark in marks)
    return lambda shapes: any(key in marks or key.endswith(ends) for key in shapes)


def _contains(*marks: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(mark in key for key in shapes for mark in marks)


def _starts(*marks: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(key.startswith(marks) for key in shapes)


def _all(*tests: Callable[[Shapes], bool]) -> Callable[[Shapes], bool]:
    return lambda shapes: all(test(shapes) for test in tests)


def _is(kind: Kind) -> Callable[[Shapes], bool]:
    return lambda shapes: _original(shapes) is kind


def _diffusers_unet(channels: int | None = None) -> Callable[[Shapes], bool]:
    def holds(shapes: Shapes) -> bool:
        first = tuple(shapes.get("conv_in.weight", ()))
        is_unet = bool(first) and "time_embedding.linear_1.weight" in shapes and "conv_out.weight" in shapes
        return is_unet and channels in {None, first[1]}

    return holds


_MARKS: tuple[tuple[Kind, Callable[[Shapes], bool]], ...] = (
    (Kind.CONCEPT, _all(_starts("vectors."), lambda shapes: any(key.endswith(".gaps") for key in shapes))),
    (Kind.LORA, lambda shapes: any(map(is_adapter, shapes))),
    (Kind.LORA, _starts("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_transformer_")),  # full differences
    (Kind.KEYS_VALUES, _keys_values),
    (Kind.CONTROLNET, _starts("control_model.", "lllite_", "input_hint_block.", "controlnet_")),
    (Kind.CONTROLNET, _contains("controlnet_blocks.", "controlnet_cond_embedding.", "zero_convs.")),
    (Kind.MOTION, _contains("motion_modules.")),
    (Kind.ADAPTER, _starts("image_proj.", "ip_adapter.", "adapter.body.", "adapter.conv_in.", "body.0.")),
    *((kind, _is(kind)) for kind in (
        Kind.INPAINTING, Kind.EDITING, Kind.LCM, Kind.PLAYGROUND, Kind.OTHER_INPUT, Kind.REFINER,
        Kind.SD1, Kind.SD2, Kind.SDXL, Kind.UNET_ORIGINAL,
    )),
    (Kind.LCM, _all(_diffusers_unet(), _has("time_embedding.cond_proj.weight"))),
    (Kind.INPAINTING, _diffusers_unet(9)),
    (Kind.UNET, _diffusers_unet()),
    (Kind.FLUX, _has("double_blocks.0.img_attn.norm.key_norm.scale", "double_blocks.0.img_attn.qkv.weight")),
    (Kind.FLUX, _has("single_transformer_blocks.0.attn.to_q.weight", "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight")),
    (Kind.SD3, _has("joint_blocks.0.context_block.adaLN_modulation.1.bias", "joint_blocks.0.context_block.attn.qkv.weight")),
    (Kind.SD3, _all(_has("transformer_blocks.0.attn.add_k_proj.weight"), _has("pos_embed.proj.weight"))),
    (Kind.OTHER_TRANSFORMER, _has(*_TRANSFORMERS)),
    (Kind.OTHER_TRANSFORMER, _has("transformer_blocks.0.attn.add_k_proj.weight")),
    (Kind.VAE, _all(_has("encoder.conv_in.weight"), _has("decoder.conv_in.weight"))),
    (Kind.VAE, _has("decoder.conv_in.conv.weight", "decoder.conv1.weight")),
    (Kind.VAE, _starts("decoder.mid.", "decoder.mid_block.")),
    (Kind.TEXT_ENCODER, _has("embeddings.token_embedding.weight", "token_embedding.weight", "shared.weight")),
    (Kind.TEXT_ENCODER, _has("embed_tokens.weight", "vision_model.embeddings.patch_embedding.weight")),
    (Kind.EMBEDDING, _has("emb_params")),
    (Kind.EMBEDDING, _starts("string_to_param", "bundle_emb.")),
    (Kind.EMBEDDING, _embedding),
)  # fmt: skip
"""In this order: a LoRA of a UNet, for example, contains names of UNet layers."""
