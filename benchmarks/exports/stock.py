"""A stock diffusers pipeline that reads exported files with its own loaders.

Owns the calls into diffusers; must not know how the files were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.numpy import load_file

from benchmarks.exports.files import DIFF, Written
from cnsctl.engine.denoising_error import TIMES
from cnsctl.engine.seeds import stream

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cnsctl.bases.protocol import Base


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A prompt of the stock pipeline, with an image whose denoising error is measured."""

    text: str
    latent: torch.Tensor
    """(1, c, h, w)."""
    noise_seed: int


class Stock:
    """`StableDiffusionPipeline` on a folder, in fp32.

    Args:
        folder: of the base model.
        base: the same base model, whose scheduler adds the noise and gives the target.
    """

    def __init__(self, folder: Path, base: Base) -> None:
        from diffusers import StableDiffusionPipeline

        self.base = base
        self.pipe: Any = StableDiffusionPipeline.from_pretrained(
            folder, dtype=torch.float32, safety_checker=None, requires_safety_checker=False, local_files_only=True
        ).to(base.device)
        self.pipe.set_progress_bar_config(disable=True)

    @contextmanager
    def loaded(self, files: Written | None) -> Iterator[None]:
        """Load files as a user does: `load_textual_inversion`, and `load_lora_weights` with an adapter per file.

        diffusers cannot read `.diff`, so these differences are added to the weights.
        """
        if files is None:
            yield
            return
        tokens = [f"<{name}>" for name in files.concepts]
        for token, path in zip(tokens, files.embeddings, strict=True):
            self.pipe.load_textual_inversion(str(path), token=token)
        before = self._added(files.weights) if files.format == DIFF else {}
        if files.weights and files.format != DIFF:
            adapters = [f"file{i}" for i in range(len(files.weights))]
            for adapter, path in zip(adapters, files.weights, strict=True):
                self.pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=adapter)
            self.pipe.set_adapters(adapters, [files.scale] * len(adapters))
        try:
            yield
        finally:
            if files.weights and files.format != DIFF:
                self.pipe.unload_lora_weights()
            self.pipe.unet.load_state_dict(before, strict=False)
            self.pipe.unload_textual_inversion(tokens)

    def _added(self, files: Sequence[Path]) -> dict[str, torch.Tensor]:
        """Add dense differences; the earlier weights by name."""
        weights = self.pipe.unet.state_dict()
        kohya = {f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}.diff": name for name in weights}
        before: dict[str, torch.Tensor] = {}
        for path in files:
            for key, change in load_file(path).items():
                name = kohya[key]
                before.setdefault(name, weights[name].clone())
                weights[name] += torch.from_numpy(change.astype(np.float32))
        return before

    @torch.no_grad()
    def errors(self, asked: Asked) -> NDArray[np.float64]:
        """The denoising error at each noise level, as `engine.denoising_error` computes it: (t,)."""
        times = torch.tensor([int(f * self.base.n_times) for f in TIMES])
        z = asked.latent.expand(len(times), *asked.latent.shape[1:])
        noise = torch.randn(z.shape, generator=stream("fit", 0, asked.noise_seed))
        noisy, target = self.base.noised(z.to(self.base.device), noise.to(self.base.device), times)
        text, _ = self.pipe.encode_prompt(asked.text, self.base.device, 1, do_classifier_free_guidance=False)
        read = text.expand(len(times), *text.shape[1:])
        found = self.pipe.unet(noisy, times.to(self.base.device), encoder_hidden_states=read).sample
        errors: NDArray[np.float64] = (found - target).square().mean((1, 2, 3)).double().cpu().numpy()
        return errors

    def image(self, text: str, seed: int) -> NDArray[np.uint8]:
        """An image (h, w, 3) with the base model's default steps and guidance scale, and the stock scheduler."""
        how = self.base.generate_defaults
        pixels = self.pipe(
            text,
            num_inference_steps=how.steps,
            guidance_scale=how.guidance_scale,
            height=how.height,
            width=how.width,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).images[0]
        found: NDArray[np.uint8] = (pixels * 255).round().astype(np.uint8)
        return found


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two images in dB."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))
