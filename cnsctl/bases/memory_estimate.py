"""Peak memory of a training step and of an image, without loading a weight.

The modules are made of their configurations on torch's meta device (accelerate's `init_empty_weights`), which computes
shapes but allocates nothing. The family's own calls of its text encoders and its denoiser then run through them, and every
tensor that an operation makes is counted from its creation to its end. `WASTE` adds what libraries allocate inside one
operation and what the allocator wastes.

    add = libraries + weights on the device + state of the training + denoiser's peak + text encoders' peak
          where text encoders wait: the larger of the denoiser's peak and the largest text encoder with its peak
    gen = libraries + weights on the device + peak of the denoiser (two images with guidance) or of the decoder, whichever
          is larger

| `--memory` | weights on the device while training | while generating | the step | the decoder |
| --- | --- | --- | --- | --- |
| auto | text encoders, denoiser, decoder | the same | keeps all activations | whole image |
| low | denoiser | denoiser, decoder or text encoder | gradient checkpointing | tiles |
| lowest | denoiser | the larger of denoiser and decoder | gradient checkpointing | tiles |

The state of the training is the values, two moments, the gradient and the place of the neurons of the budget (24 bytes
each). With `auto` also, in fp32, W₀ of all sites, a copy with the trained values, and a dense gradient (12 bytes per K/V
weight, 8 if the denoiser itself is in fp32). `auto` is what `auto` does where everything fits.

Owns this formula; must not know how the savings are made.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cnsctl import results
from cnsctl.bases.attention import installed
from cnsctl.bases.base_folder import default_budget
from cnsctl.bases.libraries import quiet_libraries
from cnsctl.bases.parts import empty_parts
from cnsctl.bases.tensor_bytes import peak
from cnsctl.concept import Frame
from cnsctl.errors import BaseModelError
from cnsctl.events import result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.loaded import Components
    from cnsctl.bases.protocol import TextFeatures

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

TILE = 512
"""Pixels of a tile of a tiled decoder, as diffusers' default for these VAEs."""

PER_SITE_WEIGHT, PER_NEURON = 12, 24
"""Bytes of the state of a training."""

WASTE, WASTE_CHECKPOINTED = 1.3, 2.0
"""Memory that a call takes, in relation to its tensors: the rest is work space and what the allocator cannot use again.

Fitted to nine training peaks and four of generating at SD 1.5's size on a CPU (glibc's allocator), 128 × 128 to 512 × 512
pixels, batch size 1 and 2. Larger batches, SDXL, transformers and GPUs have not been compared.
"""

FIXED = 220_000_000
"""Bytes of the libraries' code and of small tensors, fitted in the same way; a GPU's context has not been measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a setting of `--memory` saves."""

    checkpointing: bool
    """The step keeps the borders of blocks and computes the rest again."""
    text_leaves: bool
    """Text encoders leave the device after encoding, and the decoder while training."""
    tiles: bool
    """The decoder works on tiles."""
    offload: bool
    """One model at a time is on the device while generating."""


PLANS: Mapping[str, Plan] = {
    "auto": Plan(checkpointing=False, text_leaves=False, tiles=False, offload=False),
    "low": Plan(checkpointing=True, text_leaves=True, tiles=True, offload=False),
    "lowest": Plan(checkpointing=True, text_leaves=True, tiles=True, offload=True),
}

KEEP_ALL = PLANS["auto"]
"""Nothing is saved."""


def total(
    plan: Plan,
    parts: Mapping[str, int],
    *,
    denoiser: str,
    decoder: str,
    state: int,
    step: int,
    text: int,
    denoise: int,
    decode: int,
    texts: int,
) -> tuple[int, int]:
    """The formula of the module's text: bytes of `add` and `gen`.

    Args:
        plan: of the setting.
        parts: bytes of the weights by part, the denoiser's in the precision of this setting.
        denoiser: the name of that part.
        decoder: the name of that part.
        state: bytes of the state of the training.
        step: peak of the denoiser in a training step, beside the weights.
        text: peak of the text encoders in a training step, beside the weights.
        denoise: peak of the denoiser while it generates.
        decode: peak of the decoder.
        texts: bytes of the largest text encoder.
    """
    if not plan.text_leaves:
        resident = FIXED + sum(parts.values())
        return resident + state + step + text, resident + max(denoise, decode)
    add = FIXED + parts[denoiser] + state + max(step, texts + text)
    if plan.offload:
        return add, FIXED + max(parts[denoiser] + denoise, parts[decoder] + decode, texts)
    return add, FIXED + parts[denoiser] + max(denoise, parts[decoder] + decode, texts)


def estimate(folder: BaseFolder, *, dtype: str) -> results.EstimateResult:
    """The result of `estimating`."""
    return result_of(estimating(folder, dtype=dtype))


def estimating(folder: BaseFolder, *, dtype: str) -> Generator[float, None, results.EstimateResult]:
    """Estimate the memory of `add` and `gen` with each setting.

    Args:
        folder: the base model; of its files, only configurations are read.
        dtype: precision of the denoiser.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: a configuration cannot be read, or the denoiser cannot be followed.
    """
    quiet_libraries()
    try:
        followed = _Followed(folder)
        batch = int(folder.train["batch_size"])
        rows = []
        for done, (name, plan) in enumerate(PLANS.items()):
            yield done / len(PLANS)
            rows.append(followed.row(name, plan, DTYPES[dtype], batch))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, NotImplementedError) as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise BaseModelError(f"cannot estimate the memory of {folder.shown}: {reason}") from err
    bytes_of = followed.bytes_of(DTYPES[dtype])
    return results.EstimateResult(
        name=folder.name,
        family=folder.family.name,
        dtype=dtype,
        width=followed.side,
        height=followed.side,
        batch_size=batch,
        parts=tuple(results.PartSize(part=n, weights=followed.sizes[n], bytes=bytes_of[n]) for n in followed.sizes),
        memory=tuple(rows),
    )


class _Followed:
    """A base model on the meta device; each call through it is followed once."""

    def __init__(self, folder: BaseFolder) -> None:
        self.folder, self.family = folder, folder.family
        self.side = folder.size
        parts = empty_parts(folder)
        modules = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
        with torch.device("meta"):  # what a family makes of its parts has no memory either
            self.components: Components = importlib.import_module(folder.family.adapter).components(folder, parts)
        self.sizes = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
        self.denoiser, self.decoder = parts[self.family.denoiser], parts[self.family.decoder]
        self.factor = 2 ** (len(self.decoder.config.block_out_channels) - 1)
        weights = dict(self.denoiser.named_parameters())
        sites = (site for layer in self.components.layers for site in (layer.k, layer.v))
        self.n_sites = sum(weights[f"{site}.weight"].numel() for site in sites)
        self._peaks: dict[tuple[object, ...], int] = {}

    def bytes_of(self, dtype: torch.dtype) -> dict[str, int]:
        """Of the weights of each part: only the denoiser computes in another precision than fp32."""
        return {part: n * (dtype.itemsize if part == self.family.denoiser else 4) for part, n in self.sizes.items()}

    def row(self, name: str, plan: Plan, dtype: torch.dtype, batch: int) -> results.MemoryEstimate:
        per_site_weight = 0 if plan.text_leaves else PER_SITE_WEIGHT - (4 if dtype is torch.float32 else 0)
        bytes_of = self.bytes_of(dtype)
        others = (self.family.denoiser, self.family.decoder)
        own = default_budget(kv_weights=self.n_sites, denoiser_weights=self.sizes[self.family.denoiser])
        budget = float(self.folder.train.get("budget", own))
        waste = WASTE_CHECKPOINTED if plan.checkpointing else WASTE
        step = round(waste * self._peak("step", dtype, plan.checkpointing))
        text = round(WASTE * self._peak("text"))
        texts = max(n for part, n in bytes_of.items() if part not in others)

        def of(images: int) -> tuple[int, int]:
            return total(
                plan,
                bytes_of,
                denoiser=self.family.denoiser,
                decoder=self.family.decoder,
                state=per_site_weight * self.n_sites + PER_NEURON * round(budget * self.n_sites),
                step=images * step,  # nothing in a step but activations depends on the batch
                text=images * text,
                denoise=round(WASTE * self._peak("denoise", dtype)),
                decode=round(WASTE * self._peak("decode", plan.tiles)),
                texts=texts,
            )

        return results.MemoryEstimate(memory=name, add=of(batch)[0], add_one=of(1)[0], gen=of(1)[1])

    def _peak(self, what: str, *options: Any) -> int:
        if (what, *options) not in self._peaks:
            self._peaks[what, *options] = getattr(self, f"_{what}")(*options)
        return self._peaks[what, *options]

    def _step(self, dtype: torch.dtype, checkpointing: bool) -> int:
        """The denoiser in a training step: forward, and backward to the keys and values."""
        denoiser = self.denoiser.to(dtype).train(checkpointing)
        (denoiser.enable_gradient_checkpointing if checkpointing else denoiser.disable_gradient_checkpointing)()

        denoise, text = self._bound(1, dtype, grad=True)

        def run() -> None:
            with text:
                answer = denoise()
                (answer.float() - torch.zeros_like(answer, dtype=torch.float32)).square().mean().backward()  # type: ignore[no-untyped-call]

        return peak(run, denoiser)

    @torch.no_grad()
    def _denoise(self, dtype: torch.dtype) -> int:
        """A denoising step: two images, with and without the prompt."""
        denoise, text = self._bound(2, dtype, grad=False)
        with text:
            return peak(denoise, self.denoiser.to(dtype).eval())

    def _bound(
        self, images: int, dtype: torch.dtype, *, grad: bool
    ) -> tuple[Callable[[], torch.Tensor], AbstractContextManager[None]]:
        """The family's own call of its denoiser, and the context in which its text is bound, as in `LoadedBase.bind`."""
        found, weights = self.components, dict(self.denoiser.named_parameters())
        features = self._encoded(images).conditions(dtype)
        b, t = features.x.shape[:2]
        rows = {site: len(weights[f"{site}.weight"]) for layer in found.layers for site in (layer.k, layer.v)}
        text = {site: torch.zeros(b, t, n, device="meta", dtype=dtype, requires_grad=grad) for site, n in rows.items()}
        noisy, times = torch.zeros(*self._latents(b), device="meta", dtype=dtype), torch.zeros(b, device="meta")
        whole = [Frame(original=(self.side, self.side), target=(self.side, self.side))] * images
        return (
            lambda: found.predict(noisy, times.long(), features, whole),
            installed(found.layers, text, features.mask),
        )

    def _text(self) -> int:
        """One text in a training step: forward, and backward to its token embeddings."""
        modules = self.components.texts.modules
        tables = [table for module in modules for table in module.modules() if isinstance(table, torch.nn.Embedding)]
        hooks = [table.register_forward_hook(lambda _module, _args, rows: rows.requires_grad_()) for table in tables]
        try:
            return peak(lambda: self._read(1).x.square().mean().backward(), *modules)  # type: ignore[no-untyped-call]
        finally:
            for hook in hooks:
                hook.remove()

    def _encoded(self, images: int) -> TextFeatures:
        found: list[TextFeatures] = []
        peak(lambda: found.append(self._read(images)), *self.components.texts.modules)
        return found[0]

    def _read(self, images: int) -> TextFeatures:
        texts = self.components.texts
        return texts.encode([texts.tokenize(["a photo"])] * images, {})

    @torch.no_grad()
    def _decode(self, tiles: bool) -> int:
        _, channels, height, width = self._latents(1)
        side = min(height, width, TILE // self.factor) if tiles else max(height, width)
        z = torch.zeros(1, channels, side, side, device="meta")
        return peak(lambda: self.decoder.eval().decode(z, return_dict=False), self.decoder)

    def _latents(self, images: int) -> tuple[int, ...]:
        side = self.side // self.factor
        return (images, int(self.decoder.config.latent_channels), side, side)
