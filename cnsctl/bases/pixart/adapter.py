"""The components of a base model of the family `pixart`: a T5 text encoder, and a diffusion transformer.

Owns the calls into its parts; must not know how they are read from files, concepts or the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cnsctl.bases.cross_attention import cross_attention_layers, refuse, refuse_unsupported
from cnsctl.bases.hashing import hashing_tensors
from cnsctl.bases.loaded import Components
from cnsctl.bases.pixart.family import PIXART, SCHEDULER, TEXT_ENCODER, TEXT_LENGTHS, TOKENIZER, TRANSFORMER, VAE
from cnsctl.bases.t5_text import T5Texts, tokenizer_meaning

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.protocol import TextFeatures
    from cnsctl.concept import Frame


def components(folder: BaseFolder, parts: Mapping[str, Any]) -> Components:
    """Check the parts and put them together.

    Raises:
        BaseModelError: cnsctl cannot drive this model.
    """
    transformer, vae, scheduler = parts[TRANSFORMER], parts[VAE], parts[SCHEDULER]
    tokenizer, encoder, project = parts[TOKENIZER], parts[TEXT_ENCODER], transformer.caption_projection
    refuse(
        folder.shown,
        PIXART.title,
        {
            "its denoiser has no projection of text features": project is None,
            "its denoiser reads text features of another width than the text encoder's": (
                transformer.config.caption_channels != encoder.config.d_model
            ),
        },
    )
    refuse_unsupported(
        folder.shown,
        PIXART.title,
        unet=transformer.config,
        vae=vae.config,
        text_width=transformer.inner_dim,
    )
    # X is what K and V read: the text features after this projection, in fp32 as everything of the text
    projection = type(project)(in_features=transformer.config.caption_channels, hidden_size=transformer.inner_dim)
    projection.load_state_dict(project.state_dict())
    projection.float().eval().requires_grad_(requires_grad=False)

    def predict(
        noisy: torch.Tensor, times: torch.Tensor, _features: TextFeatures, frames: Sequence[Frame]
    ) -> torch.Tensor:
        conditions: dict[str, torch.Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if transformer.use_additional_conditions:
            sizes = torch.tensor([f.target for f in frames], dtype=noisy.dtype, device=noisy.device)
            conditions = {"resolution": sizes, "aspect_ratio": (sizes[:, 0] / sizes[:, 1])[:, None]}
        answer: torch.Tensor = transformer(
            noisy,
            # the layers read the bound K and V, not this argument; the transformer requires one
            encoder_hidden_states=noisy.new_zeros((len(noisy), 1, transformer.config.caption_channels)),
            timestep=times.expand(len(noisy)),
            added_cond_kwargs=conditions,
            return_dict=False,
        )[0]
        return answer[:, : noisy.shape[1]]  # the other channels are a learned variance

    def fingerprint(sites: Mapping[str, torch.Tensor]) -> Generator[float, None, str]:
        tensors = [
            *sites.items(),
            *((f"text.{n}", p) for n, p in encoder.named_parameters()),
            *((f"projection.{n}", p) for n, p in projection.named_parameters()),
        ]
        return hashing_tensors(tensors, meaning={"family": PIXART.name, **tokenizer_meaning(tokenizer)})

    length = TEXT_LENGTHS[str(folder.index["_class_name"])]
    return Components(
        texts=T5Texts(tokenizer, encoder, projection, length=length, name=folder.name),
        denoiser=transformer,
        predict=predict,
        layers=cross_attention_layers(transformer, PIXART.title),
        vae=vae,
        scheduler=scheduler,
        fingerprint=fingerprint,
    )
