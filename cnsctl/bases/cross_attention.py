"""Denoisers with cross-attention, UNets and transformers: their layers, and those that cnsctl cannot drive.

Owns what all families share of their denoiser; must not know text encoders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnsctl.bases.attention import check_reproducible
from cnsctl.bases.protocol import Layer
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch


def refuse_unsupported(path: Path, title: str, *, unet: Any, vae: Any, text_width: int) -> None:
    """Refuse a UNet that can be loaded, but needs more than text and latents.

    Args:
        path: of the base model, for messages.
        title: of the family, for messages.
        unet: its configuration.
        vae: configuration of the autoencoder.
        text_width: width of the text features.

    Raises:
        BaseModelError: by the first reason that holds.
    """
    reasons = {
        "the denoiser takes a guidance embedding (LCM)": unet.get("time_cond_proj_dim") is not None,
        f"the denoiser takes {unet.in_channels} channels, the decoder {vae.latent_channels}": (
            unet.in_channels != vae.latent_channels
        ),
        f"the denoiser reads text features of width {unet.cross_attention_dim}, the text encoder has {text_width}": (
            unet.cross_attention_dim != text_width
        ),
    }
    refuse(path, title, reasons)


def refuse(path: Path, title: str, reasons: Mapping[str, bool]) -> None:
    """Raise the first reason that holds."""
    for reason, holds in reasons.items():
        if holds:
            raise BaseModelError(
                f"unsupported base model: {path}", note=reason, hint=f"give a text-to-image model of {title}"
            )


def cross_attention_layers(denoiser: torch.nn.Module, title: str) -> tuple[Layer, ...]:
    """The cross-attention layers, in the order of the denoiser's modules.

    Raises:
        BaseModelError: there are none, or cnsctl cannot reproduce one.
    """
    found: list[Layer] = []
    for name, module in denoiser.named_modules():
        if not name.endswith(".attn2"):
            continue
        attention: Any = module
        check_reproducible(name, attention)
        found.append(Layer(attention=attention, k=f"{name}.to_k", v=f"{name}.to_v"))
    if not found:
        raise BaseModelError("unsupported base model: no cross-attention", hint=f"give a model of {title}")
    return tuple(found)
