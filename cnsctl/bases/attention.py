"""The attention processor that reads the K and V of the current prompt, and the formula that it computes.

Text reaches the image only through K = X·W_kᵀ + b_k and V = X·W_vᵀ + b_v, and X is the same at every denoising step. So
K and V are computed once per text, and the cross-attention layers read these instead of computing their own.

Owns the calls into a cross-attention layer; must not know how K and V are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from cnsctl.bases.protocol import CrossAttention, Layer

KeysValues = Mapping[str, torch.Tensor]
"""Per site: K or V of a batch of texts, (b, t, rows) fp32."""

MASKED = -10000.0
"""What diffusers adds to the scores of positions that are not read."""


class BoundAttention:
    """Attention processor that reads the K and V bound for this call, and nothing else of the text.

    It does what diffusers' `AttnProcessor2_0` does with them: group norm, query and key norm, mask, 4-D input.

    Args:
        k: (b, t, rows).
        v: (b, t, rows).
        mask: (b, t) bool, positions that are read; None for all.
    """

    def __init__(self, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None) -> None:
        self.k, self.v, self.mask = k, v, mask
        self.cast: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None
        """K, V and the mask as they are added and multiplied, in the dtype of the queries: once per text, not per step."""

    def __call__(
        self, attn: CrossAttention, hidden_states: torch.Tensor, *_args: object, **_kwargs: object
    ) -> torch.Tensor:
        x, image = hidden_states, hidden_states.shape[2:]
        if x.ndim == 4:
            x = x.flatten(2).transpose(1, 2)  # (b, h · w, channels)
        if len(self.k) != len(x):
            raise RuntimeError(f"K of {len(self.k)} texts for a batch of {len(x)}")
        if attn.group_norm is not None:
            x = attn.group_norm(x.transpose(1, 2)).transpose(1, 2)
        q = _heads(attn.to_q(x), attn.heads)  # (b, heads, n, rows / heads)
        if attn.norm_q is not None:
            q = attn.norm_q(q)
        cast = self.cast
        if cast is None or cast[0].dtype is not q.dtype:
            cast = self._cast(attn, q.dtype)
        # with gradients nothing is kept: a block that is checkpointed must do the same operations when it is repeated
        self.cast = None if self.k.requires_grad else cast
        k, v, bias = cast
        if q.requires_grad and q.device.type == "cpu":
            # the fused kernel's backward is slow on CPUs: written out, a training step of pocket takes 12 % less
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            out = (scores if bias is None else scores + bias).softmax(-1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out = out.transpose(1, 2).flatten(2)  # (b, n, rows)
        for module in attn.to_out:
            out = module(out)
        if hidden_states.ndim == 4:
            out = out.transpose(1, 2).unflatten(2, image)
        if attn.residual_connection:
            out = out + hidden_states
        result: torch.Tensor = out if attn.rescale_output_factor == 1 else out / attn.rescale_output_factor
        return result

    def _cast(self, attn: CrossAttention, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        k, v = (_heads(x.to(dtype), attn.heads) for x in (self.k, self.v))
        bias = None if self.mask is None else ((~self.mask).to(dtype) * MASKED)[:, None, None]  # (b, 1, 1, t)
        return (k if attn.norm_k is None else attn.norm_k(k)), v, bias


@contextmanager
def installed(layers: Sequence[Layer], keys_values: KeysValues, mask: torch.Tensor | None) -> Iterator[None]:
    """Let every layer read its K and V, (b, t, rows) per site, for the calls inside; then restore its own processor."""
    stock = [layer.attention.processor for layer in layers]
    try:
        for layer in layers:
            layer.attention.processor = BoundAttention(keys_values[layer.k], keys_values[layer.v], mask)
        yield
    finally:
        for layer, processor in zip(layers, stock, strict=True):
            layer.attention.processor = processor


STOCK = ("AttnProcessor2_0", "AttnProcessor")
"""The processors of diffusers whose result `BoundAttention` reproduces."""


def check_reproducible(name: str, attention: Any) -> None:
    """Refuse a cross-attention layer whose stock processor does more than `BoundAttention`.

    Raises:
        BaseModelError: with the name of the layer and the reason.
    """
    head = attention.inner_dim // attention.heads
    norms = [attention.norm_q, attention.norm_k]
    reasons = {
        f"its processor is {type(attention.processor).__name__}": type(attention.processor).__name__ not in STOCK,
        "it normalizes with the spatial norm of a decoder": attention.spatial_norm is not None,
        "it normalizes the text features": attention.norm_cross is not None,
        "it reads added keys and values": attention.add_k_proj is not None or attention.only_cross_attention,
        "its keys have fewer heads than its queries": attention.inner_kv_dim != attention.inner_dim,
        "its projections are fused": attention.fused_projections,
        "it normalizes across heads": any(_width(norm) not in {None, head} for norm in norms),
    }
    for reason, holds in reasons.items():
        if holds:
            raise BaseModelError(
                f"unsupported base model: cannot reproduce {name}: {reason}", hint="give a stock base model"
            )


def _width(norm: Any) -> int | None:
    """How many numbers a norm with weights normalizes together; None without weights."""
    weight = getattr(norm, "weight", None)
    return None if weight is None else int(weight.shape[-1])


def by_formula(
    attn: CrossAttention, inputs: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """The output of a layer by its formula, softmax(q·Kᵀ/√d)·V in fp32, with the layer's own query and output.

    It shares no code with `BoundAttention`: what checks must not repeat a mistake of what it checks.

    Args:
        attn: the layer; its processor is not called.
        inputs: hidden states (b, n, width) in the dtype of the layer.
        k: (b, t, rows).
        v: (b, t, rows).
        mask: (b, t) bool, positions that are read; None for all.
    """
    read = inputs if attn.group_norm is None else attn.group_norm(inputs.mT).mT
    q, k, v = (_heads(x, attn.heads) for x in (attn.to_q(read), k, v))
    q, k = (x if norm is None else norm(x.to(inputs.dtype)) for x, norm in ((q, attn.norm_q), (k, attn.norm_k)))
    scores = q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], MASKED)
    out = (scores.softmax(-1) @ v.float()).transpose(1, 2).flatten(2).to(inputs.dtype)
    for module in attn.to_out:
        out = module(out)
    result: torch.Tensor = (out + inputs if attn.residual_connection else out) / attn.rescale_output_factor
    return result


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)  # (b, heads, n, rows / heads)
