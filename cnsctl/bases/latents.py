"""Between pixels and latents: the autoencoder of a base model.

Owns scaling and the order of calls; must not know noise or text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnsctl.bases import finite
from cnsctl.bases.placement import TILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnsctl.bases.placement import Placement


PART = "vae"
"""Name of the autoencoder in every family."""


class Autoencoder:
    """A diffusers `AutoencoderKL` in fp32: half precision overflows in some decoders, and one decode costs little."""

    def __init__(
        self, vae: Any, device: torch.device, placement: Placement | None = None, *, tiles: bool = False
    ) -> None:
        """With a placement, it waits in main memory between calls; with `tiles`, it works on parts of an image."""
        self.vae, self.device, self.placement = vae.to(dtype=torch.float32), device, placement
        if placement is None:
            vae.to(device)
        self.pixels_per_latent = 2 ** (len(vae.config.block_out_channels) - 1)
        self.factor = float(vae.config.scaling_factor)
        if tiles:
            vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // self.pixels_per_latent
            vae.enable_tiling()
            vae.enable_slicing()
        self.mean, self.std = (self._each_channel(name) for name in ("latents_mean", "latents_std"))

    def _each_channel(self, name: str) -> torch.Tensor | None:
        values = getattr(self.vae.config, name, None)
        return None if values is None else torch.tensor(values, device=self.device).float().view(1, -1, 1, 1)

    @torch.no_grad()
    def encode(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """(n, h, w, 3) uint8 → latents (n, c, h/8, w/8) fp32 on the CPU, mean of the posterior, scaled."""
        latents = []
        for image in pixels:  # one at a time: the latents of an image do not depend on its neighbours
            x = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]  # (1, 3, h, w)
            z = self.vae.encode(x.to(self.device)).latent_dist.mean
            finite.refuse_output(PART, "encode an image", z)
            if self.mean is not None and self.std is not None:
                z = (z - self.mean) / self.std
            latents.append((z * self.factor).float().cpu())
        self._leave()
        return torch.cat(latents)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """Latents (c, h/8, w/8) of one image → (h, w, 3) uint8."""
        # one at a time, so that an image does not depend on its batch
        z = latents[None].float()
        if self.mean is not None and self.std is not None:
            z = z * self.std / self.factor + self.mean
        else:
            z = z / self.factor
        x = self.vae.decode(z).sample[0]
        finite.refuse_output(PART, "decode an image", x)
        self._leave()
        pixels = (x * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu().float().numpy()  # as diffusers' VaeImageProcessor
        rounded: NDArray[np.uint8] = (pixels * 255).round().astype(np.uint8)  # as its numpy_to_pil
        return rounded

    def _leave(self) -> None:
        if self.placement is not None:
            self.placement.decoder_leaves()
