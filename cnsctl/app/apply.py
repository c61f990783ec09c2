"""One concept inside a stock diffusers pipeline, and out of it again, bit for bit.

Owns what is written into a pipeline and how it is taken back; must not know stores beyond a delta file.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cnsctl.concept import NAME, Delta
from cnsctl.errors import BaseModelError, InvalidNameError, UsageError
from cnsctl.results import ShowResult

if TYPE_CHECKING:
    import torch

_PIPELINES: weakref.WeakKeyDictionary[Any, _Applied] = weakref.WeakKeyDictionary()


@dataclass(eq=False)
class AppliedConcept:
    """A concept in a pipeline. Use it as a context manager, or call `remove`."""

    trigger: str
    """What stands for the concept in a prompt: its token embeddings, then its class word."""
    _pipe: Any = field(repr=False)
    delta: Delta = field(repr=False)
    _tokens: tuple[str, ...] = field(repr=False)

    def remove(self) -> None:
        """Take the concept out: K and V weights, tokenizer and token table are as before, bit for bit.

        Raises:
            UsageError: it has been removed already.
        """
        applied = _PIPELINES.get(self._pipe)
        if applied is None or self not in applied.concepts:
            raise UsageError(f"the concept is not in the pipeline any more: {self.trigger}")
        applied.concepts.remove(self)
        self._pipe.unload_textual_inversion(list(self._tokens))
        applied.write()
        if not applied.concepts:
            del _PIPELINES[self._pipe]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class _Applied:
    """The concepts in one pipeline, and the weights that it had without them."""

    def __init__(self, pipe: Any) -> None:
        self.weights = {n.removesuffix(".weight"): p for n, p in pipe.unet.named_parameters() if n.endswith(_SITES)}
        self.before = {site: weight.detach().clone() for site, weight in self.weights.items()}
        self.concepts: list[AppliedConcept] = []

    def write(self) -> None:
        """Set each K and V weight to what it was without concepts, then to the values of each, in order."""
        import torch

        with torch.no_grad():
            for site, weight in self.weights.items():
                weight.copy_(self.before[site])
                for concept in self.concepts:
                    at = torch.from_numpy(concept.delta.indices[site]).to(weight.device)
                    values = torch.from_numpy(concept.delta.values[site]).to(weight.device, weight.dtype)
                    weight.view(-1)[at] = values


_SITES = ("attn2.to_k.weight", "attn2.to_v.weight")


def apply(
    pipe: Any, concept: str | Path | ShowResult, *, name: str | None = None, check: bool = True
) -> AppliedConcept:
    """Put a concept into a pipeline; see `cnsctl.apply_concept`."""
    import torch

    from cnsctl.formats.delta import decode_delta

    shown = concept if isinstance(concept, ShowResult) else None
    delta = decode_delta(Path(shown.delta if shown is not None else str(concept)).read_bytes())
    chosen = name or (shown.concept.name if shown is not None else delta.class_word.replace(" ", "-"))
    if not NAME.fullmatch(chosen):
        raise InvalidNameError(f"invalid name: {chosen[:80]!r}", hint="use a-z, 0-9, - and _")
    applied = _PIPELINES.get(pipe) or _Applied(pipe)
    _check(pipe, delta, applied, chosen, fingerprint=check)
    tokens = tuple(f"<{chosen}>" if i == 0 else f"<{chosen}>_{i}" for i in range(_n_embeddings(delta)))
    embeddings = torch.from_numpy(delta.vectors["text_encoder"]).to(pipe.text_encoder.dtype)
    pipe.load_textual_inversion([row.clone() for row in embeddings], token=list(tokens))
    handle = AppliedConcept(trigger=f"{' '.join(tokens)} {delta.class_word}", _pipe=pipe, delta=delta, _tokens=tokens)
    applied.concepts.append(handle)
    _PIPELINES[pipe] = applied
    applied.write()
    return handle


def _n_embeddings(delta: Delta) -> int:
    return len(delta.vectors["text_encoder"])


def _check(pipe: Any, delta: Delta, applied: _Applied, name: str, *, fingerprint: bool) -> None:
    """Refuse a pipeline of another base model before anything in it is changed."""
    shapes = {site: tuple(W.shape) for site, W in applied.before.items()}
    if set(delta.vectors) != {"text_encoder"} or shapes != {site: tuple(s) for site, s in delta.shapes.items()}:
        raise BaseModelError("the pipeline is not of the concept's base model: its K and V weights have other shapes")
    if f"<{name}>" in pipe.tokenizer.get_vocab():
        raise UsageError(f"the tokenizer has the token <{name}> already", hint="give another name")
    if fingerprint and not applied.concepts and _fingerprint(pipe, applied.before) != delta.fingerprint:
        raise BaseModelError(
            "the pipeline is not of the concept's base model: its fingerprint differs",
            note=f"the concept was trained on {delta.fingerprint[:12]}",
            hint="use the same base model; in bf16 its fingerprint differs, so load it in fp16 or fp32, or pass check=False",
        )


def _fingerprint(pipe: Any, sites: dict[str, torch.Tensor]) -> str:
    from cnsctl.bases.sd1.adapter import fingerprint

    return fingerprint(tokenizer=pipe.tokenizer, text_encoder=pipe.text_encoder, sites=sites)
