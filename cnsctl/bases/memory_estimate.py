"""Peak memory of a training step and of an image, without loading a weight.

The modules are made of their configurations on torch's meta device (accelerate's `init_empty_weights`), which computes
shapes but allocates nothing. A training step and an image then run through them, and every tensor that an operation makes
is counted from its creation to its end. So the peak is that of the real calls, except for what libraries allocate inside
one operation (work space of convolutions and matrix products) and what the allocator wastes: a few percent to 20 %.

    add = weights on the device + state of the training + the larger of the step's peak and the largest waiting text encoder
    gen = weights on the device + peak of the denoiser (two images with guidance) or of the decoder, whichever is larger

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
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cnsctl import results
from cnsctl.bases.base_folder import default_budget
from cnsctl.bases.libraries import quiet_libraries
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cnsctl.bases.base_folder import BaseFolder

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

TILE = 512
"""Pixels of a tile of a tiled decoder, as diffusers' default for these VAEs."""

_SITES = ("attn2.to_k.weight", "attn2.to_v.weight")

PER_SITE_WEIGHT, PER_NEURON = 12, 24
"""Bytes of the state of a training."""


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
        step: peak of a training step beside the weights.
        denoise: peak of the denoiser while it generates.
        decode: peak of the decoder.
        texts: bytes of the largest text encoder.
    """
    if not plan.text_leaves:
        resident = sum(parts.values())
        return resident + state + step, resident + max(denoise, decode)
    add = parts[denoiser] + state + max(step, texts)
    if plan.offload:
        return add, max(parts[denoiser] + denoise, parts[decoder] + decode)
    return add, parts[denoiser] + max(denoise, parts[decoder] + decode, texts)


def estimate(folder: BaseFolder, *, dtype: str) -> results.EstimateResult:
    """Estimate the memory of `add` and `gen` with each setting.

    Args:
        folder: the base model; of its files, only configurations are read.
        dtype: precision of the denoiser.

    Raises:
        BaseModelError: a configuration cannot be read, or the denoiser cannot be followed.
    """
    quiet_libraries()
    try:
        followed = _Followed(folder)
        batch = int(folder.train["batch_size"])
        rows = tuple(followed.row(name, plan, DTYPES[dtype], batch) for name, plan in PLANS.items())
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
        memory=rows,
    )


class _Followed:
    """A base model on the meta device; each call through it is followed once."""

    def __init__(self, folder: BaseFolder) -> None:
        self.folder, self.family = folder, folder.family
        self.side = folder.size
        modules = _modules(folder)
        self.sizes = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
        self.denoiser, self.decoder = modules[self.family.denoiser], modules[self.family.decoder]
        self.factor = 2 ** (len(self.decoder.config.block_out_channels) - 1)
        self.n_sites = sum(p.numel() for name, p in self.denoiser.named_parameters() if name.endswith(_SITES))
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
        step = self._peak("step", dtype, plan.checkpointing)

        def of(images: int) -> tuple[int, int]:
            return total(
                plan,
                bytes_of,
                denoiser=self.family.denoiser,
                decoder=self.family.decoder,
                state=per_site_weight * self.n_sites + PER_NEURON * round(budget * self.n_sites),
                step=images * step,  # nothing in a step but activations depends on the batch
                denoise=self._peak("denoise", dtype),
                decode=self._peak("decode", plan.tiles),
                texts=max(n for part, n in bytes_of.items() if part not in others),
            )

        return results.MemoryEstimate(memory=name, add=of(batch)[0], add_one=of(1)[0], gen=of(1)[1])

    def _peak(self, what: str, *options: Any) -> int:
        if (what, *options) not in self._peaks:
            self._peaks[what, *options] = getattr(self, f"_{what}")(*options)
        return self._peaks[what, *options]

    def _step(self, dtype: torch.dtype, checkpointing: bool) -> int:
        """A training step: forward, and backward to the keys and values."""
        denoiser = self.denoiser.to(dtype).train(checkpointing)
        (denoiser.enable_gradient_checkpointing if checkpointing else denoiser.disable_gradient_checkpointing)()

        def run() -> None:
            answer = _run(denoiser, self._latents(1), dtype, grad=True)
            (answer.float() - torch.zeros_like(answer, dtype=torch.float32)).square().mean().backward()  # type: ignore[no-untyped-call]

        return _peak(run, denoiser)

    @torch.no_grad()
    def _denoise(self, dtype: torch.dtype) -> int:
        """A denoising step: two images, with and without the prompt."""
        denoiser = self.denoiser.to(dtype).eval()
        return _peak(lambda: _run(denoiser, self._latents(2), dtype, grad=False), denoiser)

    @torch.no_grad()
    def _decode(self, tiles: bool) -> int:
        _, channels, height, width = self._latents(1)
        side = min(height, width, TILE // self.factor) if tiles else max(height, width)
        z = torch.zeros(1, channels, side, side, device="meta")
        return _peak(lambda: self.decoder.eval().decode(z, return_dict=False), self.decoder)

    def _latents(self, images: int) -> tuple[int, ...]:
        side = self.side // self.factor
        return (images, int(self.decoder.config.latent_channels), side, side)


def _modules(folder: BaseFolder) -> dict[str, Any]:
    """Every part that has weights, on the meta device."""
    from accelerate import init_empty_weights

    found: dict[str, Any] = {}
    for part in folder.family.parts:
        if part.kind is None or part.weights is None:
            continue
        library, name = part.kind.split(".")
        kind: Any = getattr(importlib.import_module(library), name)
        path = folder.path / part.name
        with init_empty_weights(include_buffers=True):
            if library == "diffusers":
                module = kind.from_config(kind.load_config(path, local_files_only=True))
            else:
                module = kind(kind.config_class.from_pretrained(path, local_files_only=True))
        found[part.name] = module.requires_grad_(requires_grad=False)
    return found


def _run(denoiser: Any, shape: Sequence[int], dtype: torch.dtype, *, grad: bool) -> torch.Tensor:
    """Call a UNet; what it reads beside latents and text follows from its configuration."""
    config, b = denoiser.config, shape[0]
    text = torch.zeros(b, 77, int(config.cross_attention_dim), device="meta", dtype=dtype, requires_grad=grad)
    more = {}
    if config.get("addition_embed_type") == "text_time":
        pooled = int(config.projection_class_embeddings_input_dim) - 6 * int(config.addition_time_embed_dim)
        given = {"text_embeds": (b, pooled), "time_ids": (b, 6)}
        more["added_cond_kwargs"] = {k: torch.zeros(*s, device="meta", dtype=dtype) for k, s in given.items()}
    noisy = torch.zeros(*shape, device="meta", dtype=dtype)
    times = torch.zeros(b, device="meta", dtype=torch.int64)
    answer: torch.Tensor = denoiser(noisy, times, encoder_hidden_states=text, return_dict=False, **more)[0]
    return answer


def _peak(run: Callable[[], object], module: torch.nn.Module) -> int:
    """The most bytes of tensors that exist at one time during a call, without a module's weights."""
    counted = _Counted(module)
    with _attention_as_on_devices(), counted:
        run()
    return counted.peak


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of each memory block that an operation makes, until nothing refers to it."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        weights = [tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers())]
        self._known: weakref.WeakSet[Any] = weakref.WeakSet(weights)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        for tensor in answer if isinstance(answer, (tuple, list)) else (answer,):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return answer

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._end, size)

    def _end(self, size: int) -> None:
        self.now -= size


@contextmanager
def _attention_as_on_devices() -> Iterator[None]:
    """Attention without a matrix of all positions, as devices compute it; on the meta device torch would make one.

    The function is replaced, because checkpointed blocks call it from inside the backward pass, where torch's own modes
    for replacing functions are off.
    """

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_args: Any, **_more: Any) -> Any:
        return _Attention.apply(query, key, value)  # type: ignore[no-untyped-call]

    stock = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = stock


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, _grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v, _ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
