"""The components of a base model of the family `sd1`: one CLIP text encoder, and a UNet with cross-attention.

Owns the calls into its parts; must not know how they are read from files, concepts or the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnsctl.bases.clip_text import ClipEncoder, ClipTexts, fingerprint
from cnsctl.bases.cross_attention import cross_attention_layers, refuse_unsupported
from cnsctl.bases.loaded import Components
from cnsctl.bases.sd1.family import SCHEDULER, SD1, TEXT_ENCODER, TOKENIZER, UNET, VAE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.protocol import TextFeatures
    from cnsctl.concept import Frame


def components(folder: BaseFolder, parts: Mapping[str, Any]) -> Components:
    """Check the parts and put them together.

    Raises:
        BaseModelError: cnsctl cannot drive this model.
    """
    unet, vae, scheduler = parts[UNET], parts[VAE], parts[SCHEDULER]
    encoders = {TEXT_ENCODER: ClipEncoder(tokenizer=parts[TOKENIZER], model=parts[TEXT_ENCODER])}
    refuse_unsupported(
        folder.shown,
        SD1.title,
        unet=unet.config,
        vae=vae.config,
        text_width=parts[TEXT_ENCODER].config.hidden_size,
    )

    def predict(
        noisy: torch.Tensor, times: torch.Tensor, _features: TextFeatures, _frames: Sequence[Frame]
    ) -> torch.Tensor:
        # the layers read the bound K and V, not this argument; the UNet requires one
        text = noisy.new_zeros((len(noisy), 1, 1))
        answer: torch.Tensor = unet(noisy, times, encoder_hidden_states=text, return_dict=False)[0]
        return answer

    return Components(
        texts=ClipTexts(encoders, name=folder.name),
        denoiser=unet,
        predict=predict,
        layers=cross_attention_layers(unet, SD1.title),
        vae=vae,
        scheduler=scheduler,
        fingerprint=lambda sites: fingerprint(SD1.name, encoders, sites),
    )
