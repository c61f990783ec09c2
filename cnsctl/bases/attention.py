"""The attention processor that reads the K and V of the current prompt, and the formula that it computes.

Text reaches the image only through K = X·W_kᵀ and V = X·W_vᵀ, and X is the same at every denoising step. So K and V
are computed once per text, and the cross-attention layers read these instead of computing their own.

Owns the calls into a cross-attention layer; must not know how K and V are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from cnsctl.bases.protocol import Base, CrossAttention

KeysValues = Mapping[str, torch.Tensor]
"""Per site: K or V of a batch of texts, (b, t, rows) fp32."""


class BoundAttention:
    """Attention processor that reads the K and V bound for this call, and nothing else of the text.

    Each cross-attention layer has its own; `bound` sets K and V and clears them afterwards.
    """

    def __init__(self) -> None:
        self.k: torch.Tensor | None = None
        self.v: torch.Tensor | None = None
        self.cast: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(
        self, attn: CrossAttention, hidden_states: torch.Tensor, *_args: object, **_kwargs: object
    ) -> torch.Tensor:
        if self.k is None or self.v is None:
            raise RuntimeError("cross-attention without bound K and V: call the denoiser inside bases.attention.bound")
        if len(self.k) != len(hidden_states):
            raise RuntimeError(f"K of {len(self.k)} texts for a batch of {len(hidden_states)}")
        query = attn.to_q(hidden_states)  # (b, n, rows)
        if self.cast is None or self.cast[0].dtype is not query.dtype:
            self.cast = (self.k.to(query.dtype), self.v.to(query.dtype))  # once per call, not once per step
        q, k, v = (_heads(x, attn.heads) for x in (query, *self.cast))
        if query.requires_grad and query.device.type == "cpu":
            # the fused kernel's backward is slow on CPUs: written out, a training step of pocket takes 12 % less
            out = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v)
        out = out.transpose(1, 2).flatten(2)  # (b, n, rows)
        for module in attn.to_out:
            out = module(out)
        if attn.residual_connection:
            out = out + hidden_states
        result: torch.Tensor = out / attn.rescale_output_factor
        return result


@contextmanager
def bound(base: Base, keys_values: KeysValues) -> Iterator[None]:
    """Bind K and V, (b, t, rows) per site, to every cross-attention layer for the calls inside."""
    processors = []
    for layer in base.layers:
        if not isinstance(layer.attention.processor, BoundAttention):
            layer.attention.set_processor(BoundAttention())
        processor = layer.attention.processor
        assert isinstance(processor, BoundAttention)
        processor.k, processor.v, processor.cast = keys_values[layer.k], keys_values[layer.v], None
        processors.append(processor)
    try:
        yield
    finally:
        for processor in processors:
            processor.k = processor.v = processor.cast = None


def by_formula(attn: CrossAttention, inputs: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The output of a layer by its formula, softmax(q·Kᵀ/√d)·V in fp32, with the layer's own query and output.

    It shares no code with `BoundAttention`: what checks must not repeat a mistake of what it checks.

    Args:
        attn: the layer; its processor is not called.
        inputs: hidden states (b, n, width) in the dtype of the layer.
        k: (b, t, rows).
        v: (b, t, rows).
    """
    q, k, v = (x.float().unflatten(2, (attn.heads, -1)).transpose(1, 2) for x in (attn.to_q(inputs), k, v))
    out = ((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v).transpose(1, 2).flatten(2).to(inputs.dtype)
    for module in attn.to_out:
        out = module(out)
    result: torch.Tensor = (out + inputs if attn.residual_connection else out) / attn.rescale_output_factor
    return result


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)  # (b, heads, n, rows / heads)
