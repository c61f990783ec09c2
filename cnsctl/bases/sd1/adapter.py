"""A loaded base model of the family `sd1`: one CLIP text encoder, and a UNet with cross-attention.

Owns the calls into its parts; must not know how they are read from files, concepts or the store.
"""

from __future__ import annotations

from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnsctl.bases import finite, samplers
from cnsctl.bases.base_folder import default_budget
from cnsctl.bases.config_files import read_json
from cnsctl.bases.hashing import tensors_hash
from cnsctl.bases.parts import load_parts
from cnsctl.bases.protocol import Layer, Sample, TextBatch
from cnsctl.bases.sd1.family import SCHEDULER, SD1, TEXT_ENCODER, TOKENIZER, UNET, VAE
from cnsctl.bases.sd1.loading import cross_attention_layers, refuse_unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.settings import GenerateSettings


class Sd1Base:
    """A loaded base model of the family `sd1`; satisfies `bases.protocol.Base`."""

    family = SD1.name

    def __init__(
        self,
        folder: BaseFolder,
        *,
        device: torch.device,
        dtype: torch.dtype,
        hash_weights: bool,
        known: str | None,
    ) -> None:
        parts = load_parts(folder, check_values=hash_weights or known is None)
        refuse_unsupported(folder.shown, parts)
        self.name = folder.name
        self.folder = folder
        self.device = device
        self.dtype = dtype
        self._tokenizer = parts[TOKENIZER]
        self._text = parts[TEXT_ENCODER].to(device)
        unet, vae, scheduler = parts[UNET], parts[VAE], parts[SCHEDULER]
        self.layers: Sequence[Layer] = cross_attention_layers(unet)
        self.denoiser_weights = sum(p.numel() for p in unet.parameters())
        named = dict(unet.named_parameters())
        weights = {s: named[f"{s}.weight"].detach() for layer in self.layers for s in (layer.k, layer.v)}
        self.stacked_sites = torch.cat(list(weights.values())).to(device, torch.float32)
        rows = self.stacked_sites.split_with_sizes([len(W) for W in weights.values()])
        self.sites: Mapping[str, torch.Tensor] = dict(zip(weights, rows, strict=True))
        self.text_length = int(self._text.config.max_position_embeddings)
        self.vector_widths: Mapping[str, int] = {TEXT_ENCODER: int(self._text.get_input_embeddings().weight.shape[1])}
        self.fingerprint = known or fingerprint(tokenizer=self._tokenizer, text_encoder=self._text, sites=self.sites)
        self.weights_hash = _weights_hash(folder.path, unet, vae) if hash_weights else None
        # on CPUs convolutions over channels-last memory are faster: a training step of pocket takes 8 % less
        layout = torch.channels_last if device.type == "cpu" else torch.preserve_format
        self._unet = unet.to(device=device, dtype=dtype, memory_format=layout)
        # half precision overflows in some decoders (force_upcast), and one decode costs little: fp32 throughout
        self._vae = vae.to(device, torch.float32)
        self._scheduler = scheduler
        self._alphas = _alphas_cumprod(scheduler)
        self.prediction = str(scheduler.config.get("prediction_type"))
        self._pixels_per_latent = 2 ** (len(vae.config.block_out_channels) - 1)
        self.size = folder.size

    @property
    def train_defaults(self) -> Mapping[str, float | int]:
        kv_weights = sum(W.numel() for W in self.sites.values())
        budget = default_budget(kv_weights=kv_weights, denoiser_weights=self.denoiser_weights)
        return {"budget": budget, **self.folder.train}

    @property
    def generate_defaults(self) -> GenerateSettings:
        return self.folder.generate_settings()

    @property
    def n_times(self) -> int:
        return len(self._alphas)

    # ------------------------------------------------------------------ text

    def token_ids(self, text: str) -> list[int]:
        return token_ids(self._tokenizer, text)

    def token_text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids))).strip()

    def frame(self, ids: Sequence[int]) -> list[int]:
        t = self._tokenizer
        framed = [t.bos_token_id, *ids, t.eos_token_id]
        if len(framed) > self.text_length:
            raise ValueError(f"{len(ids)} ids do not fit into {self.text_length - 2} positions")
        return framed + [t.pad_token_id] * (self.text_length - len(framed))

    def embeddings(self, ids: Sequence[int]) -> Mapping[str, torch.Tensor]:
        table = self._text.get_input_embeddings().weight
        return {TEXT_ENCODER: table[torch.tensor(list(ids), device=self.device)].detach().clone()}

    def text_features(self, batch: TextBatch) -> torch.Tensor:
        with self._spliced(batch.places.to(self.device), batch.vectors.get(TEXT_ENCODER)):
            hidden: torch.Tensor = self._text(batch.ids.to(self.device)).last_hidden_state
        return hidden  # (b, t, d)

    @contextmanager
    def _spliced(self, places: torch.Tensor, vectors: torch.Tensor | None) -> Iterator[None]:
        """Replace looked-up embeddings with trained ones for this call; the embedding table is never written to."""
        if not bool(places.any()):
            yield
            return
        if vectors is None:
            raise ValueError("places without token embeddings")

        def write(_module: torch.nn.Module, _args: object, looked_up: torch.Tensor) -> torch.Tensor:
            spliced = looked_up.clone()
            spliced[places] = vectors.to(looked_up)
            return spliced

        hook = self._text.get_input_embeddings().register_forward_hook(write)
        try:
            yield
        finally:
            hook.remove()

    # ---------------------------------------------------------------- images

    @torch.no_grad()
    def encode_images(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        latents = []
        for image in pixels:  # one at a time: the latents of an image do not depend on its neighbours
            x = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]  # (1, 3, h, w)
            z = self._vae.encode(x.to(self.device)).latent_dist.mean * self._vae.config.scaling_factor
            finite.refuse_output(VAE, "encode an image", z)
            latents.append(z.float().cpu())
        return torch.cat(latents)

    def noised(
        self, latents: torch.Tensor, noise: torch.Tensor, times: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self._alphas[times.cpu()].to(latents.device)[:, None, None, None]  # fp32: MPS does not support float64
        a, s = alpha.sqrt(), (1 - alpha).sqrt()
        noisy = a * latents + s * noise
        target = noise if self.prediction == "epsilon" else a * noise - s * latents
        return noisy, target

    def denoise(self, noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        # the layers read the bound K and V, not this argument; the UNet requires one
        text = noisy.new_zeros((len(noisy), 1, 1), dtype=self.dtype)
        answer: torch.Tensor = self._unet(
            noisy.to(self.dtype), times.to(noisy.device), encoder_hidden_states=text
        ).sample
        return answer.float()

    @torch.no_grad()
    def sample(
        self, text: torch.Tensor, settings: GenerateSettings, generators: Sequence[torch.Generator]
    ) -> Iterator[Sample]:
        """The loop of diffusers' StableDiffusionPipeline, to the bit: a test compares the two for every sampler."""
        scheduler = samplers.make(settings.sampler, self._scheduler)
        given = signature(scheduler.step).parameters
        options = {k: v for k, v in {"eta": 0.0, "generator": list(generators)}.items() if k in given}
        scheduler.set_timesteps(settings.steps, device=self.device)
        # diffusers would sample the noise in the base model's dtype, which gives other values than fp32 on some machines
        height, width = (pixels // self._pixels_per_latent for pixels in (settings.height, settings.width))
        shape = (1, self._unet.config.in_channels, height, width)
        noise = torch.cat([torch.randn(shape, generator=g) for g in generators])  # (b, c, h, w)
        latents = noise.to(self.device, self.dtype) * scheduler.init_noise_sigma
        text = text.to(self.dtype)
        guided = len(text) == 2 * len(latents)
        for step, time in enumerate(scheduler.timesteps, start=1):
            noisy = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, time)
            predicted = self._unet(noisy, time, encoder_hidden_states=text, return_dict=False)[0]
            if guided:
                without, with_text = predicted.chunk(2)
                predicted = without + settings.guidance_scale * (with_text - without)
            latents = scheduler.step(predicted, time, latents, **options, return_dict=False)[0]
            yield Sample(step=step, total=len(scheduler.timesteps), latents=latents)

    @torch.no_grad()
    def decode_latents(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        # one at a time, so that an image does not depend on its batch
        x = self._vae.decode(latents[None].float() / self._vae.config.scaling_factor).sample[0]
        finite.refuse_output(VAE, "decode an image", x)
        pixels = (x * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu().float().numpy()  # as diffusers' VaeImageProcessor
        rounded: NDArray[np.uint8] = (pixels * 255).round().astype(np.uint8)  # as its numpy_to_pil
        return rounded


def fingerprint(*, tokenizer: Any, text_encoder: Any, sites: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the K/V weights, the text encoder and the tokenizer's meaning, rounded to fp16."""
    meaning = {
        "family": SD1.name,
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "length": int(text_encoder.config.max_position_embeddings),
        "sample": [token_ids(tokenizer, text) for text in _TOKENIZER_SAMPLES],
        "text_encoder": {key: str(getattr(text_encoder.config, key)) for key in _TEXT_SETTINGS},
    }
    # transformers 5.0 calls them text_model.embeddings…, later ones embeddings…
    text = ((f"text.{n.removeprefix('text_model.')}", p) for n, p in text_encoder.named_parameters())
    return tensors_hash([*sites.items(), *text], meaning=meaning)


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text without start, end, padding or truncation."""
    return [int(i) for i in tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids]


_TEXT_SETTINGS = ("hidden_act", "num_attention_heads", "num_hidden_layers", "layer_norm_eps")
"""What the output of a text encoder depends on beside its weights."""

_TOKENIZER_SAMPLES = (
    "a photo of a dog",
    "Unforgettable, indescribable ÄÖÜ 123!",
    "new york's finest cat-toy  at   night",
)
"""Their ids identify the merges, which each version of the library exposes in another way."""


def _weights_hash(path: Path, unet: torch.nn.Module, vae: torch.nn.Module) -> str:
    """SHA-256 over all weights of denoiser and decoder, and the settings in their files, not the library's defaults."""
    named = [
        *((f"unet.{n}", p) for n, p in unet.named_parameters()),
        *((f"vae.{n}", p) for n, p in vae.named_parameters()),
    ]
    files = (f"{UNET}/config.json", f"{VAE}/config.json", f"{SCHEDULER}/scheduler_config.json")
    settings = {file: read_json(path / file) for file in files}
    meaning = {f: {k: v for k, v in s.items() if not k.startswith("_")} for f, s in settings.items()}
    return tensors_hash(named, meaning=meaning)


def _alphas_cumprod(scheduler: Any) -> torch.Tensor:
    from diffusers import DDPMScheduler

    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
    settings = {k: scheduler.config[k] for k in keys if scheduler.config.get(k) is not None}
    alphas: torch.Tensor = DDPMScheduler(**settings).alphas_cumprod
    return alphas.float()
