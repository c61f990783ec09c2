"""A first run of a base model, small and without noise: it shows what is wrong with a folder that loads.

Owns the run and its messages; must not know the families.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from cnsctl.bases import finite
from cnsctl.errors import BaseModelError, CnsctlError, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnsctl.bases.loaded import LoadedBase

SIDE = 8
"""Height and width of the latents."""


@torch.no_grad()
def refuse_broken(base: LoadedBase) -> None:
    """Encode a text, take one denoising step, decode and encode an image.

    A few seconds for Stable Diffusion 1.5 on one busy core, most of which is the first reading of the weights.

    Raises:
        BaseModelError: a part fails, or gives NaN or Inf; the message contains its name.
    """
    family, shown = base.folder.family, str(base.folder.shown)
    with failing(f"the text encoder of {shown} cannot read a text"):
        features = base.encode([base.tokenize(["a photo"])], {})
        finite.refuse_output("text_encoder", "read a text", features.x)
    channels = int(base.autoencoder.vae.config.latent_channels)
    latents = torch.zeros((1, channels, SIDE, SIDE), device=base.device)
    keys_values = {
        site: F.linear(features.x, W, base.biases.get(site)).to(base.dtype) for site, W in base.sites.items()
    }
    with failing(f"{family.denoiser}/ of {shown} cannot denoise"), base.bind(keys_values, features):
        predicted = base.denoise(latents, torch.tensor([base.n_times // 2]))
        if predicted.shape != latents.shape:
            raise ValueError(f"it predicts {tuple(predicted.shape)} for latents {tuple(latents.shape)}")
        finite.refuse_output(family.denoiser, "denoise", predicted)
    with failing(f"{family.decoder}/ of {shown} cannot decode and encode an image"):
        pixels = base.decode_latents(latents[0])
        if base.encode_images(np.ascontiguousarray(pixels)[None]).shape != latents.shape:
            raise ValueError(f"an image of {pixels.shape} does not become latents of {tuple(latents.shape)}")


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn an exception of a library into an error about the base model."""
    try:
        yield
    except (CnsctlError, MemoryError):
        raise
    except Exception as err:
        # the libraries raise exceptions of any class about settings that they cannot use
        if is_out_of_memory(err):
            raise
        lines = [line.strip() for line in str(err).splitlines() if line.strip()]
        raise BaseModelError(
            f"{what}: {': '.join([type(err).__name__, *lines[:1]])}",
            note="its configuration and its weights do not belong together, or one is damaged",
            hint="download the folder again",
        ) from err
