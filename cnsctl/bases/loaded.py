"""A loaded base model of any family: what its text encoders, denoiser and autoencoder do together.

A family supplies the parts (`Components`); this class is the rest of `bases.protocol.Base`.

Owns sites, hashes, devices and the binding of text; must not know a family, concepts or the store.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from cnsctl.bases.attention import installed
from cnsctl.bases.base_folder import default_budget
from cnsctl.bases.hashing import tensors_hash
from cnsctl.bases.latents import Autoencoder
from cnsctl.bases.noise import NoiseSchedule
from cnsctl.bases.protocol import AS_TRAINED, Frame, Layer, Sample, Slot, TextFeatures, TextOptions, TokenizedText
from cnsctl.bases.sampling import denoised

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.settings import GenerateSettings


class Texts(Protocol):
    """The text encoders of a base model; see `bases.protocol.Base` for what the methods do."""

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]: ...

    @property
    def widths(self) -> Mapping[str, int]: ...

    def tokenize(
        self, pieces: Sequence[str | Slot], options: TextOptions = AS_TRAINED, *, chunks: int = 1
    ) -> TokenizedText: ...

    def embeddings(self, words: str) -> Mapping[str, torch.Tensor]: ...

    def encode(self, texts: Sequence[TokenizedText], vectors: Mapping[str, torch.Tensor]) -> TextFeatures: ...


Predict = Callable[[torch.Tensor, torch.Tensor, TextFeatures, "Sequence[Frame]"], torch.Tensor]
"""The denoiser's call: noisy latents (b, c, h, w), times () or (b,), features in its dtype, a frame per image."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Components:
    """What a family supplies."""

    texts: Texts
    denoiser: torch.nn.Module
    predict: Predict
    layers: Sequence[Layer]
    vae: Any
    scheduler: Any
    fingerprint: Callable[[Mapping[str, torch.Tensor]], str]
    """From the sites' weights: SHA-256 over them, the text encoders and the tokenizers' meaning."""
    empty_is_zero: bool = False
    """An empty negative prompt stands for zeros instead of an encoded text (SDXL)."""


class LoadedBase:
    """A loaded base model; satisfies `bases.protocol.Base`."""

    def __init__(
        self,
        folder: BaseFolder,
        components: Components,
        *,
        device: torch.device,
        dtype: torch.dtype,
        hash_weights: bool,
        known: str | None,
    ) -> None:
        self.folder, self.name, self.family = folder, folder.name, folder.family.name
        self.device, self.dtype = device, dtype
        self.components = components
        self.layers = components.layers
        denoiser, vae = components.denoiser, components.vae
        self.denoiser_weights = sum(p.numel() for p in denoiser.parameters())
        named = dict(denoiser.named_parameters())
        weights = {s: named[f"{s}.weight"].detach() for layer in self.layers for s in (layer.k, layer.v)}
        self.stacked_sites = torch.cat(list(weights.values())).to(device, torch.float32)
        sizes = [len(W) for W in weights.values()]
        self.sites: Mapping[str, torch.Tensor] = dict(
            zip(weights, self.stacked_sites.split_with_sizes(sizes), strict=True)
        )
        self.stacked_biases = _stacked_biases(named, weights, device)
        self.biases: Mapping[str, torch.Tensor] = {}
        if self.stacked_biases is not None:
            self.biases = dict(zip(weights, self.stacked_biases.split_with_sizes(sizes), strict=True))
        self.vector_widths = components.texts.widths
        self.fingerprint = known or components.fingerprint(self.sites)
        self.part_hashes: Mapping[str, str] | None = _part_hashes(folder, denoiser, vae) if hash_weights else None
        for module in components.texts.modules:
            module.to(device)
        # on CPUs convolutions over channels-last memory are faster: a training step of pocket takes 8 % less
        layout = torch.channels_last if device.type == "cpu" else torch.preserve_format
        denoiser.to(device=device, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
        if dtype is torch.float32:  # one copy of these weights instead of two
            for site, W in self.sites.items():
                named[f"{site}.weight"].data = W
        self.autoencoder = Autoencoder(vae, device)
        self.schedule = NoiseSchedule(components.scheduler)
        self.size = folder.size
        self._features: TextFeatures | None = None
        """What `bind` has bound, in the dtype of the denoiser."""

    @property
    def train_defaults(self) -> Mapping[str, float | int]:
        kv_weights = sum(W.numel() for W in self.sites.values())
        budget = default_budget(kv_weights=kv_weights, denoiser_weights=self.denoiser_weights)
        return {"budget": budget, **self.folder.train}

    @property
    def generate_defaults(self) -> GenerateSettings:
        return self.folder.generate_settings()

    # ------------------------------------------------------------------ text

    def tokenize(
        self, pieces: Sequence[str | Slot], options: TextOptions = AS_TRAINED, *, chunks: int = 1
    ) -> TokenizedText:
        return self.components.texts.tokenize(pieces, options, chunks=chunks)

    def embeddings(self, words: str) -> Mapping[str, torch.Tensor]:
        return self.components.texts.embeddings(words)

    def encode(self, texts: Sequence[TokenizedText], vectors: Mapping[str, torch.Tensor]) -> TextFeatures:
        return self.components.texts.encode(texts, vectors)

    @torch.no_grad()
    def without_text(self, chunks: int = 1) -> TextFeatures | None:
        if not self.components.empty_is_zero:
            return None
        found = self.encode([self.tokenize([""], chunks=chunks)], {})
        return found.each(torch.zeros_like)

    @contextmanager
    def bind(self, keys_values: Mapping[str, torch.Tensor], features: TextFeatures) -> Iterator[None]:
        before, self._features = self._features, features.conditions(self.dtype)
        try:
            with installed(self.layers, keys_values, features.mask):
                yield
        finally:
            self._features = before

    # ---------------------------------------------------------------- images

    def encode_images(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        return self.autoencoder.encode(pixels)

    def decode_latents(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        return self.autoencoder.decode(latents)

    @property
    def n_times(self) -> int:
        return len(self.schedule)

    def noised(
        self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.schedule.noised(latents, noise, times)

    def denoise(self, noisy: torch.Tensor, times: torch.Tensor, frames: Sequence[Frame] | None = None) -> torch.Tensor:
        return self._predict(noisy.to(self.dtype), times.to(noisy.device), frames).float()

    def sample(self, settings: GenerateSettings, generators: Sequence[torch.Generator]) -> Iterator[Sample]:
        height, width = (pixels // self.autoencoder.pixels_per_latent for pixels in (settings.height, settings.width))
        return denoised(
            lambda noisy, time: self._predict(noisy, time, None),
            self.components.scheduler,
            settings,
            generators,
            shape=(int(self.autoencoder.vae.config.latent_channels), height, width),
            device=self.device,
            dtype=self.dtype,
        )

    def _predict(self, noisy: torch.Tensor, times: torch.Tensor, frames: Sequence[Frame] | None) -> torch.Tensor:
        if self._features is None:
            raise RuntimeError("the denoiser was called without text: call it inside Base.bind")
        if frames is None:
            height, width = (side * self.autoencoder.pixels_per_latent for side in noisy.shape[2:])
            frames = [Frame(original=(height, width), target=(height, width))] * len(noisy)
        return self.components.predict(noisy, times, self._features, frames)


def _stacked_biases(
    named: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], device: torch.device
) -> torch.Tensor | None:
    found = [named.get(f"{site}.bias") for site in weights]
    if all(bias is None for bias in found):
        return None
    rows = [W.new_zeros(len(W)) if b is None else b.detach() for b, W in zip(found, weights.values(), strict=True)]
    return torch.cat(rows).to(device, torch.float32)


def _part_hashes(folder: BaseFolder, denoiser: torch.nn.Module, vae: torch.nn.Module) -> dict[str, str]:
    """SHA-256 of each part that the fingerprint leaves out, and the settings in its file, not the library's defaults."""
    family = folder.family
    modules = {
        "denoiser": (family.denoiser, denoiser),
        "decoder": (family.decoder, vae),
        "scheduler": (SCHEDULER, None),
    }
    return {
        part: tensors_hash([] if module is None else module.named_parameters(), meaning=folder.part_settings(name))
        for part, (name, module) in modules.items()
    }


SCHEDULER = "scheduler"
"""The part that describes the noise schedule, in every family."""
