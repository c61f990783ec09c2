"""How deltas act: the K and V of a text, and the attention processor that reads them.

Text reaches the picture only through K = X·W_kᵀ and V = X·W_vᵀ, and X is the same at every denoising step: K and V are
computed once per text, from a temporary copy of each site, and the base's own weights are never written to.

Owns the three modes; must not know training, pictures or files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from cnsctl.concept import Mode, Prompt
from cnsctl.engine.prompt_tokens import SplicedText, Token, features, splice
from cnsctl.engine.seeds import stream

if TYPE_CHECKING:
    from cnsctl.bases.protocol import Base, CrossAttention
    from cnsctl.engine.concepts import Concept

KeysValues = Mapping[str, torch.Tensor]
"""Per site: K or V of a batch of texts, (b, t, rows) fp32."""

PROBED_QUERIES = 16
"""Seeded inputs on which each attention layer is compared with its formula."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlay:
    """The deltas that may act, and how."""

    mode: Mode
    concepts: Mapping[str, Concept]
    """By name, in learning order. In merged all of them act always: this must be the whole store."""
    _merged: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    def merged_weight(self, W: torch.Tensor, site: str) -> torch.Tensor:
        """In merged: a site's weight under all deltas, made once."""
        if site not in self._merged:
            self._merged[site] = site_weight(W, site, [(c, 1.0) for c in self.concepts.values()], merged=True)
        return self._merged[site]

    def acting(self, prompt: Prompt) -> tuple[tuple[Concept, float], ...]:
        """The deltas that act on a text, in the order in which they do, with their scales.

        In prompt mode every named delta acts on every token, so that n of them (of a scale that is not 0) share: each
        at 1/n of its scale.
        """
        if self.mode is Mode.MERGED:
            return tuple((c, 1.0) for c in self.concepts.values())
        sharing = sum(m.scale != 0 for m in prompt.mentions) if self.mode is Mode.PROMPT else 1
        return tuple((self.concepts[m.name], m.scale / max(1, sharing)) for m in prompt.mentions)

    def tokens(self) -> dict[str, Token]:
        """What stands for each concept in a prompt."""
        return {n: Token(class_word=c.class_word, n_vectors=c.n_vectors) for n, c in self.concepts.items()}

    def splice(self, base: Base, prompt: Prompt) -> SplicedText:
        return splice(base, prompt, self.tokens())


EMPTY = Overlay(mode=Mode.PROMPT, concepts={})
"""The base alone."""


@torch.no_grad()
def text_keys_values(base: Base, overlay: Overlay, text: SplicedText) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """X (1, t, d) of one text, and K and V of every site, (1, t, rows), all fp32.

    One text at a time: its numbers do not depend on which other texts are drawn beside it.
    """
    X = features(base, [text], {n: overlay.concepts[n].vectors for n in text.spans})
    acting = overlay.acting(text.prompt)
    if overlay.mode is Mode.TOKEN:
        own = {id(overlay.concepts[n]): list(at) for n, at in text.spans.items()}
        return X, {s: _token_projection(X, W, s, acting, own) for s, W in base.sites.items()}
    if overlay.mode is Mode.MERGED:
        return X, {s: F.linear(X, overlay.merged_weight(W, s)) for s, W in base.sites.items()}
    return X, {s: F.linear(X, site_weight(W, s, acting)) for s, W in base.sites.items()}


def site_weight(
    W: torch.Tensor, site: str, acting: Sequence[tuple[Concept, float]], *, merged: bool = False
) -> torch.Tensor:
    """The weight that K or V is computed with: W₀ itself, or a copy with the acting deltas.

    merged: set in learning order, the topmost owner wins. Otherwise W₀ + Σ scale · (value − W₀).
    """
    if not acting:
        return W
    copy = W.clone()
    flat = copy.view(-1)
    for concept, scale in acting:
        at, values = concept.indices[site], concept.values[site]
        if merged or (len(acting) == 1 and scale == 1):
            flat[at] = values  # set, not added: exactly what was learned
        else:
            flat[at] += scale * (values - W.view(-1)[at])
    return copy


def _token_projection(
    X: torch.Tensor,
    W: torch.Tensor,
    site: str,
    acting: Sequence[tuple[Concept, float]],
    own: Mapping[int, list[int]],
) -> torch.Tensor:
    out = F.linear(X, W)
    for concept, scale in acting:
        at = own[id(concept)]
        out[:, at] = F.linear(X[:, at], site_weight(W, site, [(concept, scale)]))
    return out


class BoundAttention:
    """Attention processor that reads the K and V bound for this call, and nothing else of the text.

    One per cross-attention layer; K and V are set by `bound` and cleared after it.
    """

    def __init__(self) -> None:
        self.k: torch.Tensor | None = None
        self.v: torch.Tensor | None = None
        self.cast: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(
        self, attn: CrossAttention, hidden_states: torch.Tensor, *_args: object, **_kwargs: object
    ) -> torch.Tensor:
        if self.k is None or self.v is None:
            raise RuntimeError("cross-attention without bound K and V: draw through engine.overlay.bound")
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


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)  # (b, heads, n, rows / heads)


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


def stacked(rows: Sequence[KeysValues]) -> dict[str, torch.Tensor]:
    """K and V of several texts as one batch."""
    return {site: torch.cat([row[site] for row in rows]) for site in rows[0]}


@torch.no_grad()
def misreading(base: Base, keys_values: KeysValues) -> float:
    """How far the attention as it is installed is from softmax(q·Kᵀ/√d)·V with these K and V, relative; 0 is exact.

    Each layer is called as the denoiser calls it, on seeded inputs, and its output is compared with the formula written
    out in fp32. An attention that reads other keys or values, or none, gives another output.

    Args:
        base: its layers are called, with its own dtype.
        keys_values: of one text, (1, t, rows) per site.

    Returns:
        The largest difference over the layers, divided by the norm of what the attention adds; infinite when an output
        is NaN or Inf.
    """
    worst = 0.0
    with bound(base, keys_values):
        for layer in base.layers:
            attn: Any = layer.attention
            width = next(attn.to_q.parameters()).shape[1]
            inputs = torch.randn((1, PROBED_QUERIES, width), generator=stream("attention", layer.k))
            inputs = inputs.to(base.device, base.dtype)
            wanted = _written_out(attn, inputs, keys_values[layer.k], keys_values[layer.v])
            nothing = _written_out(attn, inputs, keys_values[layer.k], torch.zeros_like(keys_values[layer.v]))
            gap = (attn(inputs) - wanted).double().norm() / (wanted - nothing).double().norm().clamp(min=1e-30)
            worst = max(worst, float(gap)) if bool(torch.isfinite(gap)) else math.inf
    return worst


def _written_out(attn: CrossAttention, inputs: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The attention's output by its formula, softmax(q·Kᵀ/√d)·V in fp32, with the layer's own query and output."""
    q, k, v = (_heads(x.float(), attn.heads) for x in (attn.to_q(inputs), k, v))
    out = ((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v).transpose(1, 2).flatten(2).to(inputs.dtype)
    for module in attn.to_out:
        out = module(out)
    result: torch.Tensor = (out + inputs if attn.residual_connection else out) / attn.rescale_output_factor
    return result
