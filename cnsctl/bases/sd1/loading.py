"""Reading the parts of a folder of the family `sd1`, and refusing those that cnsctl cannot drive.

Owns what is read and what is refused; must not know what the parts are used for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from cnsctl.bases import samplers
from cnsctl.bases.libraries import quiet_libraries
from cnsctl.bases.protocol import Layer
from cnsctl.bases.sd1.family import PREDICTIONS, SCHEDULER, SD1, TEXT_ENCODER, TOKENIZER, UNET, VAE
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def load_parts(path: Path) -> dict[str, Any]:
    """Load every part of a pipeline, by name: modules in evaluation mode, without gradients.

    Raises:
        BaseModelError: a part cannot be loaded, or the denoiser needs more than text and latents.
    """
    quiet_libraries()
    try:
        parts = _from_files(path)
    except (
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        RuntimeError,
        TypeError,
        ImportError,
        NotImplementedError,
        SafetensorError,
    ) as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise BaseModelError(
            f"cannot load {path} as {SD1.title}: {reason}",
            hint="give a folder written by diffusers' StableDiffusionPipeline.save_pretrained, with safetensors weights",
        ) from err
    _refuse_unsupported(path, parts)
    for part in (TEXT_ENCODER, UNET, VAE):
        parts[part].eval().requires_grad_(requires_grad=False)
    return parts


def _from_files(path: Path) -> dict[str, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        TEXT_ENCODER: (CLIPTextModel, {"dtype": torch.float32}),
        # cast once, to the computing dtype, after hashing and after W₀ was copied: not to fp32 first
        UNET: (UNet2DConditionModel, {"torch_dtype": _stored_dtype(path / UNET)}),
        VAE: (AutoencoderKL, {"torch_dtype": torch.float32}),
    }
    index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
    kind_name = index.get(SCHEDULER, [None, None])[1]  # as the stock pipeline chooses
    scheduler = samplers.load(path / SCHEDULER, kind_name, predictions=PREDICTIONS, corrects=True)
    parts: dict[str, Any] = {
        SCHEDULER: scheduler,
        TOKENIZER: CLIPTokenizer.from_pretrained(path / TOKENIZER, local_files_only=True),
    }
    for part, (kind, options) in kinds.items():
        half = {"variant": "fp16"} if _only_half(path / part) else {}
        parts[part], report = kind.from_pretrained(
            path / part, local_files_only=True, use_safetensors=True, output_loading_info=True, **options, **half
        )
        if absent := [*report["missing_keys"], *report["mismatched_keys"]]:
            raise ValueError(f"{len(absent)} weights of {part} are missing, such as {min(map(str, absent))}")
    return parts


def _only_half(folder: Path) -> bool:
    """Whether a part has an fp16 variant of its weights and no other."""
    names = [p.name for p in folder.glob("*.safetensors")]
    return bool(names) and all(".fp16" in name for name in names)


def _stored_dtype(folder: Path) -> torch.dtype:
    """The dtype of a part's stored weights: half precision if all of them have it, else fp32."""
    from safetensors import safe_open

    kinds = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            kinds |= {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118  not a mapping
    return {("F16",): torch.float16, ("BF16",): torch.bfloat16}.get(tuple(kinds), torch.float32)


def _refuse_unsupported(path: Path, parts: Mapping[str, Any]) -> None:
    """Refuse a denoiser that can be loaded, but needs more than text and latents, or predicts something else."""
    unet, vae, text = parts[UNET].config, parts[VAE].config, parts[TEXT_ENCODER].config
    reasons = {
        "the denoiser takes a guidance embedding (LCM)": unet.get("time_cond_proj_dim") is not None,
        f"the denoiser takes {unet.in_channels} channels, the decoder {vae.latent_channels}": (
            unet.in_channels != vae.latent_channels
        ),
        f"the denoiser reads text features of width {unet.cross_attention_dim}, the text encoder has {text.hidden_size}": (
            unet.cross_attention_dim != text.hidden_size
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise BaseModelError(
                f"unsupported base model: {path}", note=reason, hint=f"give a text-to-image model of {SD1.title}"
            )


def cross_attention_layers(unet: torch.nn.Module) -> tuple[Layer, ...]:
    """The cross-attention layers, in the order of the UNet's modules.

    Raises:
        BaseModelError: there are none, or cnsctl cannot reproduce one.
    """
    found: list[Layer] = []
    for name, module in unet.named_modules():
        if not name.endswith(".attn2"):
            continue
        attention: Any = module
        if attention.to_k.bias is not None or attention.to_v.bias is not None:
            raise BaseModelError(
                f"unsupported base model: K or V of {name} has a bias", hint=f"give a model of {SD1.title}"
            )
        found.append(Layer(attention=attention, k=f"{name}.to_k", v=f"{name}.to_v"))
    if not found:
        raise BaseModelError("unsupported base model: no cross-attention", hint=f"give a model of {SD1.title}")
    return tuple(found)
