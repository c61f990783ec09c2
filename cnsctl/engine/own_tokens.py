"""Token mode inside modules that are not ours: a delta acts on its concept's own tokens, wherever their features go.

Each text encoder appends one number per concept and position to its features: 1 at the concept's own tokens, else 0. These
marks travel with the features through whatever a script does to them: guidance, batches, copies, embeddings that were
encoded earlier. The denoiser takes the marks off again, and each K and V projection adds own features · ΔWᵀ. Everything is
a hook or a buffer outside the state dict, so no weight is written to, and taking it out is exact.

Owns marks and hooks; must not know pipelines, tokenizers or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CHANGE = "own_token_change"
"""The buffer of a K or V projection: ΔW of each concept side by side, (rows, concepts · columns)."""

FEATURES = 2
"""Where a denoiser that is called without keywords finds its text features: after the latents and the time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnTokens:
    """A concept's tokens, and what it changes at them."""

    key: object
    """The same for the same concept: what it changes is computed once."""
    name: str
    ids: Mapping[str, range]
    """Per text encoder: ids that only this concept has, in the order in which a prompt has them."""
    change: Callable[[str], torch.Tensor]
    """ΔW of a site, (rows, columns); called once per site."""


class TokenMode:
    """The concepts that act on their own tokens in one denoiser.

    Args:
        encoders: the text encoders, whose features the denoiser reads side by side.
        norms: per text encoder, its last layer norm, which scripts call by itself to skip layers.
        denoiser: reads the text features; None when it is gone. It is not kept alive.
        others: other modules that read the same text features, such as a ControlNet.
        sites: the K and V projections.
        widths: per text encoder, of its features.
        check: called before each call of the denoiser; raises if its attention does not call the projections.
    """

    def __init__(
        self,
        *,
        encoders: Mapping[str, torch.nn.Module],
        norms: Mapping[str, torch.nn.Module],
        denoiser: Callable[[], torch.nn.Module | None],
        others: Sequence[torch.nn.Module],
        sites: Mapping[str, torch.nn.Linear],
        widths: Mapping[str, int],
        check: Callable[[], None],
    ) -> None:
        self.encoders, self.norms, self.denoiser, self.others, self.sites = encoders, norms, denoiser, others, sites
        self.check = check
        self.widths = tuple(widths[encoder] for encoder in encoders)
        self.concepts: list[OwnTokens] = []
        self._hooks: list[Any] = []
        self._own: torch.Tensor | None = None
        """Features of the present call at own tokens, 0 elsewhere: (b, t, concepts · columns)."""

    @torch.no_grad()
    def set(self, concepts: Sequence[OwnTokens]) -> None:
        """Let exactly these concepts act."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._own = [], None
        for site, projection in self.sites.items():
            found = dict(zip((c.key for c in self.concepts), self._changes(projection), strict=True))
            parts = [found[c.key] if c.key in found else c.change(site).to(projection.weight) for c in concepts]
            if self.concepts:
                delattr(projection, CHANGE)
            if parts:
                projection.register_buffer(CHANGE, torch.cat(parts, dim=1), persistent=False)
        self.concepts = list(concepts)
        if concepts:
            self._install()

    def _changes(self, projection: torch.nn.Linear) -> tuple[torch.Tensor, ...]:
        """ΔW of each present concept, as the projection has it now: on its device, in its dtype."""
        if not self.concepts:
            return ()
        return projection.get_buffer(CHANGE).chunk(len(self.concepts), dim=1)

    def _install(self) -> None:
        n = len(self.concepts)
        for name, encoder in self.encoders.items():
            marks = _Marks([concept.ids[name] for concept in self.concepts], [c.name for c in self.concepts])
            self._hooks.append(encoder.register_forward_hook(marks.append, with_kwargs=True))
        for norm, width in zip(self.norms.values(), self.widths, strict=True):
            carried = _Carried(width + n)
            self._hooks.append(norm.register_forward_pre_hook(carried.take_off))
            self._hooks.append(norm.register_forward_hook(carried.put_back))
        denoiser = self.denoiser()
        if denoiser is not None:
            self._hooks.append(denoiser.register_forward_pre_hook(self._read_marks, with_kwargs=True))
            self._hooks.append(denoiser.register_forward_hook(self._forget, always_call=True))
        for other in self.others:
            self._hooks.append(other.register_forward_pre_hook(self._drop_marks, with_kwargs=True))
        for projection in self.sites.values():
            # first, so that the hooks of a script see the K and V that the attention reads
            self._hooks.append(projection.register_forward_hook(self._add_change, prepend=True))

    def _read_marks(self, _module: torch.nn.Module, args: Any, kwargs: Any) -> Any:
        self.check()
        X, self._own = self._parts(_features(args, kwargs))
        return _with_features(args, kwargs, X)

    def _forget(self, _module: torch.nn.Module, _args: Any, out: Any) -> None:
        """After a call, or an error in it (without an output). With gradients, blocks may be computed again in the backward pass."""
        if out is None or not torch.is_grad_enabled():
            self._own = None

    def _drop_marks(self, _module: torch.nn.Module, args: Any, kwargs: Any) -> Any:
        return _with_features(args, kwargs, self._parts(_features(args, kwargs))[0])

    def _add_change(self, projection: torch.nn.Linear, _args: Any, out: torch.Tensor) -> torch.Tensor:
        if self._own is None:
            return out
        change = projection.get_buffer(CHANGE)
        if change.is_meta:
            raise UsageError(
                "cannot use a concept whose layers are offloaded one by one", hint="use pipe.enable_model_cpu_offload()"
            )
        return out + F.linear(self._own.to(change.dtype), change)

    def _parts(self, marked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features without marks, (b, t, columns), and features of own tokens; None if nothing is marked.

        Raises:
            UsageError: the marks are those of another number of concepts.
        """
        n, columns, width = len(self.concepts), sum(self.widths), marked.shape[-1]
        if width == columns:  # encoded without these text encoders, or before there was a concept
            return marked, None
        if width != columns + n * len(self.widths):
            raise UsageError(
                "the prompt embeddings were encoded while other concepts were in the pipeline",
                hint="encode the prompt again after a concept is applied or removed",
            )
        X, own, at = [], [], 0
        for part in self.widths:
            features = marked[..., at : at + part]
            marks = marked[..., at + part : at + part + n]
            X.append(features)
            own.append(features.unsqueeze(-2) * marks.unsqueeze(-1))  # (b, t, concepts, columns of this encoder)
            at += part + n
        return torch.cat(X, dim=-1), torch.cat(own, dim=-1).flatten(-2)


class _Marks:
    """What one text encoder appends to its features."""

    def __init__(self, ids: Sequence[range], names: Sequence[str]) -> None:
        self.ids, self.names = ids, names

    def append(self, _module: torch.nn.Module, args: Any, kwargs: Any, out: Any) -> Any:
        tokens = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        tokens = tokens.view(-1, tokens.shape[-1])
        for own, name in zip(self.ids, self.names, strict=True):
            _check_whole(tokens, own, name)
        marks = torch.stack([(tokens >= own.start) & (tokens < own.stop) for own in self.ids], dim=-1)
        return _appended(out, marks)


def _check_whole(tokens: torch.Tensor, own: range, name: str) -> None:
    """Refuse a text that has a concept in part, such as one whose end was cut off."""
    if torch.compiler.is_compiling():
        return
    flat = [int(i) for row in tokens.tolist() for i in (*row, -1)]
    at = 0
    while at < len(flat):
        if flat[at] not in own:
            at += 1
        elif flat[at : at + len(own)] == list(own):
            at += len(own)
        else:
            raise UsageError(
                f"<{name}> is not whole in the prompt: it does not fit, or was not written as <{name}>",
                note=f"it has {len(own)} tokens; the text encoder reads {tokens.shape[-1]}, start and end included",
                hint="shorten the prompt, or name the concept earlier",
            )


def _appended(found: Any, marks: torch.Tensor) -> Any:
    """The output of a text encoder, in which every tensor of features, (b, t, width), has the marks at its end."""
    if isinstance(found, torch.Tensor) and found.shape[:-1] == marks.shape[:-1]:
        return torch.cat([found, marks.to(found)], dim=-1)
    if isinstance(found, dict):  # an output of transformers, which is also a dataclass
        return type(found)(**{key: _appended(value, marks) for key, value in found.items()})
    if isinstance(found, tuple):
        return tuple(_appended(value, marks) for value in found)
    return found


class _Carried:
    """Lets a layer norm read features without their marks, and give both back."""

    def __init__(self, marked: int) -> None:
        self.marked = marked
        self.marks: list[torch.Tensor | None] = []

    def take_off(self, norm: torch.nn.LayerNorm, args: Any) -> Any:
        (x,), (width,) = args, norm.normalized_shape
        self.marks.append(x[..., width:] if x.shape[-1] == self.marked else None)
        return (x[..., :width],)

    def put_back(self, _norm: torch.nn.LayerNorm, _args: Any, out: torch.Tensor) -> torch.Tensor:
        marks = self.marks.pop()
        return out if marks is None else torch.cat([out, marks], dim=-1)


def _features(args: Any, kwargs: Any) -> torch.Tensor:
    found: torch.Tensor = kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[FEATURES]
    return found


def _with_features(args: Any, kwargs: Any, features: torch.Tensor) -> Any:
    if "encoder_hidden_states" in kwargs:
        return args, {**kwargs, "encoder_hidden_states": features}
    return (*args[:FEATURES], features, *args[FEATURES + 1 :]), kwargs
