"""A loaded base model of any family: what its text encoders, denoiser and autoencoder do together.

A family supplies the parts (`Components`); this class is the rest of `bases.protocol.Base`.

Owns sites, hashes, devices and the binding of text; must not know a family, concepts or the store.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from cnsctl.bases import samplers
from cnsctl.bases.attention import installed
from cnsctl.bases.base_folder import default_budget
from cnsctl.bases.hashing import hashing_tensors
from cnsctl.bases.latents import Autoencoder
from cnsctl.bases.memory_estimate import KEEP_ALL, Plan
from cnsctl.bases.noise import NoiseSchedule
from cnsctl.bases.placement import Placement
from cnsctl.bases.protocol import AS_TRAINED, Layer, Sample, Slot, TextFeatures, TextOptions, TokenizedText
from cnsctl.bases.sampling import denoised
from cnsctl.concept import Frame
from cnsctl.events import within

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def wait(self, placement: Placement) -> None:
        """Let every module wait in main memory between its calls."""
        ...


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
    fingerprint: Callable[[Mapping[str, torch.Tensor]], Generator[float, None, str]]
    """From the sites' weights: SHA-256 over them, the text encoders and the tokenizers' meaning; yields its share done."""
    empty_is_zero: bool = False
    """An empty negative prompt is read as zeros instead of an encoded text (SDXL)."""


class LoadedBase:
    """A loaded base model; satisfies `bases.protocol.Base`."""

    def __init__(
        self,
        folder: BaseFolder,
        components: Components,
        *,
        device: torch.device,
        dtype: torch.dtype,
        fingerprint: str,
        part_hashes: Mapping[str, str] | None,
        plan: Plan = KEEP_ALL,
    ) -> None:
        self.folder, self.name, self.family = folder, folder.name, folder.family.name
        self.device, self.dtype = device, dtype
        self.components = components
        self.layers = components.layers
        denoiser, vae = components.denoiser, components.vae
        self.denoiser_weights = sum(p.numel() for p in denoiser.parameters())
        named = dict(denoiser.named_parameters())
        weights = kv_weights(components)
        self.shapes: Mapping[str, tuple[int, int]] = {
            site: (int(W.shape[0]), int(W.shape[1])) for site, W in weights.items()
        }
        self.stacked_sites: torch.Tensor | None = None
        self.sites: Mapping[str, torch.Tensor] = _Stored(named, weights, device)
        sizes = [len(W) for W in weights.values()]
        if not plan.text_leaves:
            self.stacked_sites = torch.cat(list(weights.values())).to(device, torch.float32)
            self.sites = dict(zip(weights, self.stacked_sites.split_with_sizes(sizes), strict=True))
        self.stacked_biases = _stacked_biases(named, weights, device)
        self.biases: Mapping[str, torch.Tensor] = {}
        if self.stacked_biases is not None:
            self.biases = dict(zip(weights, self.stacked_biases.split_with_sizes(sizes), strict=True))
        self.vector_widths = components.texts.widths
        self.fingerprint, self.part_hashes = fingerprint, part_hashes
        self.placement = self._placed(plan, weights)
        self.autoencoder = Autoencoder(vae, device, self.placement, tiles=plan.tiles)
        self.schedule = NoiseSchedule(components.scheduler)
        self.size = folder.size
        self._features: TextFeatures | None = None
        """What `bind` has bound, in the dtype of the denoiser."""

    def _placed(self, plan: Plan, weights: Mapping[str, torch.Tensor]) -> Placement | None:
        """Cast the denoiser, and put every part where it computes or waits."""
        parts, device = self.components, self.device
        named, denoiser = dict(parts.denoiser.named_parameters()), parts.denoiser
        if not plan.text_leaves:
            for module in parts.texts.modules:
                module.to(device)
            # on CPUs convolutions over channels-last memory are faster: a training step of pocket takes 8 % less
            layout = torch.channels_last if device.type == "cpu" else torch.preserve_format
            denoiser.to(device=device, dtype=self.dtype, memory_format=layout)  # type: ignore[call-overload]
            if self.dtype is torch.float32:  # one copy of these weights instead of two
                for site, W in self.sites.items():
                    named[f"{site}.weight"].data = W
            return None
        # not channels-last: that would copy every convolution, of which the file's pages in memory remain the original
        denoiser.to(self.dtype)
        for site, W in weights.items():  # the denoiser does not read them; K and V are computed from what the file has
            # a copy of its own: otherwise the pages of the whole file would stay in memory
            named[f"{site}.weight"].data = W if W.dtype is self.dtype else W.clone()
        denoiser.to(device)
        if plan.checkpointing:
            denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
        placement = Placement(plan, device, denoiser=denoiser, decoder=parts.vae, texts=parts.texts.modules)
        parts.texts.wait(placement)
        return placement

    @property
    def train_defaults(self) -> Mapping[str, float | int]:
        kv_weights = sum(rows * columns for rows, columns in self.shapes.values())
        budget = default_budget(kv_weights=kv_weights, denoiser_weights=self.denoiser_weights)
        return {"budget": budget, "resolution": self.size, **self.folder.train}

    @property
    def generate_defaults(self) -> GenerateSettings:
        return self.folder.generate_settings()

    # ------------------------------------------------------------------ text

    def tokenize(
        self, pieces: Sequence[str | Slot], options: TextOptions = AS_TRAINED, *, chunks: int = 1
    ) -> TokenizedText:
        return self.components.texts.tokenize(pieces, options, chunks=chunks)

    def embeddings(self, words: str) -> Mapping[str, torch.Tensor]:
        return {e: rows.to(self.device) for e, rows in self.components.texts.embeddings(words).items()}

    def encode(self, texts: Sequence[TokenizedText], vectors: Mapping[str, torch.Tensor]) -> TextFeatures:
        if self.placement is not None and not any(v.requires_grad for v in vectors.values()):
            self.placement.prompt_is_encoded()
        return self.components.texts.encode(texts, vectors).each(lambda tensor: tensor.to(self.device))

    @torch.no_grad()
    def without_text(self, chunks: int = 1) -> TextFeatures | None:
        if not self.components.empty_is_zero:
            return None
        found = self.encode([self.tokenize([""], chunks=chunks)], {})
        return found.each(torch.zeros_like)

    @contextmanager
    def bind(self, keys_values: Mapping[str, torch.Tensor], features: TextFeatures) -> Iterator[None]:
        before, self._features = self._features, features.conditions(self.dtype)
        if self.placement is not None:
            self.placement.denoiser_is_needed()
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

    def check_sampler(self, settings: GenerateSettings) -> None:
        samplers.check(settings, self.components.scheduler)

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


class _Stored(Mapping[str, torch.Tensor]):
    """W₀ of each site as the denoiser stores it, cast to fp32 when it is read: a new tensor unless it is fp32 already."""

    def __init__(self, named: Mapping[str, torch.Tensor], sites: Iterable[str], device: torch.device) -> None:
        self._weights = {site: named[f"{site}.weight"] for site in sites}
        self._device = device

    def __getitem__(self, site: str) -> torch.Tensor:
        return self._weights[site].detach().to(self._device, torch.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def _stacked_biases(
    named: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], device: torch.device
) -> torch.Tensor | None:
    found = [named.get(f"{site}.bias") for site in weights]
    if all(bias is None for bias in found):
        return None
    rows = [W.new_zeros(len(W)) if b is None else b.detach() for b, W in zip(found, weights.values(), strict=True)]
    return torch.cat(rows).to(device, torch.float32)


def kv_weights(parts: Components) -> dict[str, torch.Tensor]:
    """W₀ of each site, as the denoiser has it after loading."""
    named = dict(parts.denoiser.named_parameters())
    return {site: named[f"{site}.weight"].detach() for layer in parts.layers for site in (layer.k, layer.v)}


def part_hashes(folder: BaseFolder, parts: Components) -> Generator[float, None, dict[str, str]]:
    """SHA-256 of each part that the fingerprint leaves out, and the settings in its file, not the library's defaults.

    Yields:
        The share that is done.
    """
    family = folder.family
    modules = {
        "denoiser": (family.denoiser, parts.denoiser),
        "decoder": (family.decoder, parts.vae),
        "scheduler": (SCHEDULER, None),
    }
    tensors = {part: [] if module is None else list(module.named_parameters()) for part, (_, module) in modules.items()}
    sizes = {part: sum(tensor.numel() for _, tensor in named) for part, named in tensors.items()}
    total, done, found = sum(sizes.values()), 0, {}
    for part, named in tensors.items():
        hashing = hashing_tensors(named, meaning=folder.part_settings(modules[part][0]))
        found[part] = yield from within(hashing, done / total, (done + sizes[part]) / total)
        done += sizes[part]
    return found


SCHEDULER = "scheduler"
"""The part that describes the noise schedule, in every family."""
