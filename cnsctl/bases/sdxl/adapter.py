"""The components of a base model of the family `sdxl`: two CLIP text encoders, pooled text, and the sizes of images.

Owns the calls into its parts; must not know how they are read from files, concepts or the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cnsctl.bases.clip_text import ClipEncoder, ClipTexts, fingerprint
from cnsctl.bases.cross_attention import cross_attention_layers, refuse, refuse_unsupported
from cnsctl.bases.loaded import Components
from cnsctl.bases.sdxl.family import SCHEDULER, SDXL, TEXT_ENCODERS, UNET, VAE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.protocol import TextFeatures
    from cnsctl.concept import Frame

POOLED = "text_encoder_2"
"""The text encoder whose projected output conditions the denoiser."""

SIZES = 6
"""Numbers of an image's original size, crop and target size."""


def components(folder: BaseFolder, parts: Mapping[str, Any]) -> Components:
    """Check the parts and put them together.

    Raises:
        BaseModelError: cnsctl cannot drive this model.
    """
    unet, vae, scheduler = parts[UNET], parts[VAE], parts[SCHEDULER]
    encoders = {e: ClipEncoder(tokenizer=parts[t], model=parts[e]) for e, t in TEXT_ENCODERS.items()}
    refuse_unsupported(
        folder.shown,
        SDXL.title,
        unet=unet.config,
        vae=vae.config,
        text_width=sum(encoder.model.config.hidden_size for encoder in encoders.values()),
    )
    conditions = int(encoders[POOLED].model.config.projection_dim) + SIZES * int(
        unet.config.get("addition_time_embed_dim") or 0
    )
    refuse(
        folder.shown,
        SDXL.title,
        {
            "the denoiser is not conditioned on pooled text and sizes": (
                unet.config.get("addition_embed_type") != "text_time"
            ),
            "the denoiser is conditioned on an aesthetic score, as the refiner is": (
                unet.config.get("projection_class_embeddings_input_dim") != conditions
            ),
        },
    )

    def predict(
        noisy: torch.Tensor, times: torch.Tensor, features: TextFeatures, frames: Sequence[Frame]
    ) -> torch.Tensor:
        assert features.pooled is not None
        # with guidance there are two texts per image: the sizes of both halves are those of the image
        sizes = [[*f.original, *f.crop, *f.target] for f in frames]
        conditions = {
            "text_embeds": features.pooled,
            "time_ids": torch.tensor(sizes, dtype=noisy.dtype, device=noisy.device),
        }
        text = noisy.new_zeros((len(noisy), 1, 1))  # the layers read the bound K and V; the UNet requires an argument
        answer: torch.Tensor = unet(
            noisy, times, encoder_hidden_states=text, added_cond_kwargs=conditions, return_dict=False
        )[0]
        return answer

    return Components(
        texts=ClipTexts(encoders, name=folder.name, skipped=1, pooled=POOLED),
        denoiser=unet,
        predict=predict,
        layers=cross_attention_layers(unet, SDXL.title),
        vae=vae,
        scheduler=scheduler,
        fingerprint=lambda sites: fingerprint(SDXL.name, encoders, sites),
        empty_is_zero=bool(folder.index.get("force_zeros_for_empty_prompt", True)),
    )
