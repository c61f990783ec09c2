"""Where the parts of a base model are while they wait: `--memory low` and `lowest`.

    low      text encoders and decoder wait in main memory and come to the device for a call; the denoiser stays there
    lowest   the denoiser waits too, while the decoder runs or a prompt is encoded

accelerate's hooks move a whole part before its forward call. They wrap `forward` of the part, and nothing inside it: the
attention processors stay those of the model.

Owns these hooks; must not know what the parts compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cnsctl.bases.memory_estimate import Plan

Outputs = tuple[torch.Tensor, torch.Tensor | None]
"""Hidden states of a text encoder, and its pooled output."""

Read = Callable[[torch.Tensor | None], Outputs]
"""Runs a text encoder on the token embeddings at the places of its texts."""

TILE = 512
"""Pixels of a tile of the decoder: a whole image of SDXL takes 7 GB, a tile 2 GB."""


def read_directly(read: Read, vectors: torch.Tensor | None) -> Outputs:
    """Run a text encoder that is on the device."""
    return read(vectors)


class Placement:
    """The parts of one base model, each with an accelerate hook if it waits in main memory.

    Args:
        plan: what waits.
        device: where parts compute.
        denoiser: stays on the device unless the plan moves it.
        decoder: the autoencoder.
        texts: text encoders.
    """

    def __init__(
        self,
        plan: Plan,
        device: torch.device,
        *,
        denoiser: torch.nn.Module,
        decoder: torch.nn.Module,
        texts: Iterable[torch.nn.Module],
    ) -> None:
        from accelerate import cpu_offload_with_hook

        self._denoiser = cpu_offload_with_hook(denoiser, device)[1] if plan.offload else None
        self._decoder = cpu_offload_with_hook(decoder, device, prev_module_hook=self._denoiser)[1]
        self._texts: Mapping[int, Any] = {id(text): cpu_offload_with_hook(text, device)[1] for text in texts}

    def denoiser_is_needed(self) -> None:
        """Bring the denoiser, of which single layers may be called."""
        if self._denoiser is not None:
            self._denoiser.hook.pre_forward(self._denoiser.model)

    def prompt_is_encoded(self) -> None:
        """A text is encoded without training: the denoiser makes room."""
        if self._denoiser is not None:
            self._denoiser.offload()

    def decoder_leaves(self) -> None:
        """Its call is over."""
        self._decoder.offload()

    def reader(self, *modules: torch.nn.Module) -> Callable[[Read, torch.Tensor | None], Outputs]:
        """Run text encoders that wait in main memory; in training, run them again in the backward pass."""
        hooks = [self._texts[id(module)] for module in modules]

        def leave() -> None:
            for hook in hooks:
                hook.offload()

        def run(read: Read, vectors: torch.Tensor | None) -> Outputs:
            if vectors is not None and vectors.requires_grad and torch.is_grad_enabled():
                found: Outputs = _ReadAgain.apply(vectors, read, leave)  # type: ignore[no-untyped-call]
                return found
            try:
                return read(vectors)
            finally:
                leave()

        return run


class _ReadAgain(torch.autograd.Function):
    """A text encoder that leaves the device between the forward and the backward pass.

    Autograd would keep its weights there until the backward pass. So nothing is kept, and the encoder runs twice.
    """

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, read: Read, leave: Callable[[], None]) -> Outputs:
        ctx.read, ctx.leave = read, leave
        ctx.save_for_backward(vectors)
        try:
            return read(vectors)
        finally:
            leave()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor, None, None]:
        vectors = ctx.saved_tensors[0].detach().requires_grad_()
        try:
            with torch.enable_grad():
                outputs = ctx.read(vectors)
            pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o is not None and g is not None]
            (found,) = torch.autograd.grad([o for o, _ in pairs], vectors, [g for _, g in pairs])
        finally:
            ctx.leave()
        return found, None, None
