"""Refusing the base models of the family `sd1` that cnsctl cannot drive, and finding their cross-attention layers.

Owns what is refused; must not know how parts are read (`bases.parts`) or used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnsctl.bases.protocol import Layer
from cnsctl.bases.sd1.family import PREDICTIONS, SCHEDULER, SD1, TEXT_ENCODER, UNET, VAE
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch


def refuse_unsupported(path: Path, parts: Mapping[str, Any]) -> None:
    """Refuse a denoiser that can be loaded, but needs more than text and latents, or predicts something else.

    Raises:
        BaseModelError: by the first reason that holds.
    """
    unet, vae, text = parts[UNET].config, parts[VAE].config, parts[TEXT_ENCODER].config
    prediction = str(parts[SCHEDULER].config.get("prediction_type"))
    reasons = {
        "the denoiser takes a guidance embedding (LCM)": unet.get("time_cond_proj_dim") is not None,
        f"the denoiser takes {unet.in_channels} channels, the decoder {vae.latent_channels}": (
            unet.in_channels != vae.latent_channels
        ),
        f"the denoiser reads text features of width {unet.cross_attention_dim}, the text encoder has {text.hidden_size}": (
            unet.cross_attention_dim != text.hidden_size
        ),
        f"the denoiser predicts {prediction!r}, not {' or '.join(PREDICTIONS)}": prediction not in PREDICTIONS,
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
