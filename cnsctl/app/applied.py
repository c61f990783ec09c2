"""The concepts in one pipeline, and everything that it had without them.

Owns the order of changes and how they are undone; must not know stores or files.
"""

from __future__ import annotations

import sys
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from cnsctl.app.applied_tokens import TokenTable, token_names
from cnsctl.app.pipeline_parts import WithoutAdapters, check_not_fused, check_readable
from cnsctl.bases.registry import FAMILIES
from cnsctl.concept import Mode
from cnsctl.errors import UsageError
from cnsctl.events import result_of

if TYPE_CHECKING:
    import torch

    from cnsctl.app.pipeline_parts import Parts
    from cnsctl.concept import Delta
    from cnsctl.engine.concepts import Concept
    from cnsctl.engine.own_tokens import OwnTokens

APPLIED: weakref.WeakKeyDictionary[Any, AppliedPipeline] = weakref.WeakKeyDictionary()
"""UNet → the pipeline around it while it contains concepts. No value refers to its UNet, so nothing is kept alive."""


class AppliedConcept:
    """A concept in a pipeline. Use it as a context manager, or call `remove`."""

    trigger: str
    """What names the concept in a prompt: `<dog>`."""
    mode: Mode
    """Which tokens of a prompt its delta acts on: `token`, its own; `prompt`, all of every prompt."""

    def __init__(self, pipeline: AppliedPipeline, delta: Delta, *, name: str, mode: Mode) -> None:
        first = next(iter(pipeline.tables.values()))
        n = max(map(len, delta.vectors.values()), default=0) + len(first.class_ids(delta.class_word))
        self.name, self.mode, self.delta = name, mode, delta
        self.tokens = token_names(name, n)
        self.trigger = f"<{name}>"
        self._pipeline = pipeline

    def remove(self) -> None:
        """Take the concept out: K and V weights, hooks, tokenizer and token table are as before, bit for bit.

        Raises:
            UsageError: it was removed before, or tokens or weights of the pipeline were changed after it.
        """
        if self not in self._pipeline.concepts:
            raise UsageError(f"the concept was removed from the pipeline before: {self.trigger!r}")
        self._pipeline.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self in self._pipeline.concepts:
            self.remove()

    def __repr__(self) -> str:
        return f"AppliedConcept(trigger={self.trigger!r}, mode={self.mode.value!r})"


class AppliedPipeline:
    """A pipeline with and without concepts."""

    def __init__(self, parts: Parts) -> None:
        from cnsctl.bases.clip_text import ClipEncoder, final_norm, fingerprint
        from cnsctl.engine.own_tokens import TokenMode

        self.unet = weakref.ref(parts.unet)
        self.sites = parts.sites
        self.check_readable = partial(check_readable, parts.attentions)
        self.tables = {e: TokenTable(model, parts.tokenizers[e]) for e, model in parts.encoders.items()}
        self.concepts: list[AppliedConcept] = []
        self._before: dict[str, torch.Tensor] = {}
        """Copies of the K and V weights, while a concept in prompt mode changes them."""
        self._token_mode = TokenMode(
            encoders=parts.encoders,
            norms={e: final_norm(model) for e, model in parts.encoders.items()},
            denoiser=self.unet,
            check=self.check_readable,
            others=parts.others,
            sites=parts.sites,
            widths={e: model.config.hidden_size for e, model in parts.encoders.items()},
        )
        encoders = {
            e: ClipEncoder(tokenizer=t.tokenizer, model=WithoutAdapters(t.text_encoder)) for e, t in self.tables.items()
        }
        weights = {site: projection.weight for site, projection in self.sites.items()}
        family = next(f.name for f in FAMILIES if f.has_clip_text and list(f.text_encoders) == list(encoders))
        self.fingerprint = result_of(fingerprint(family, encoders, weights))

    def check_unchanged(self) -> None:
        """Refuse if undoing would undo more than our own changes, or less.

        Raises:
            UsageError: what was changed meanwhile.
        """
        for table in self.tables.values():
            table.check_unchanged()
        self.check_readable()
        unet = self.unet()
        if unet is not None and self._before:  # in token mode, weights are not written to
            check_not_fused(unet)

    def add(self, concept: AppliedConcept) -> None:
        """Put a concept into the pipeline, after those that it has. After an error it is as before."""
        before = self.concepts
        self.check_unchanged()
        try:
            self._set([*before, concept])
        except BaseException:
            self._set(before)
            raise

    def remove(self, concept: AppliedConcept) -> None:
        """Take a concept out of the pipeline."""
        self.check_unchanged()
        self._set([c for c in self.concepts if c is not concept])

    def _set(self, concepts: list[AppliedConcept]) -> None:
        """Let exactly these concepts be in the pipeline, in order."""
        self._set_tokens(concepts)
        self._set_weights([c for c in concepts if c.mode is not Mode.TOKEN])
        self._token_mode.set([self._own_tokens(c) for c in concepts if c.mode is Mode.TOKEN])
        self.concepts = concepts
        _forget_compiled()
        unet = self.unet()
        if unet is not None and concepts:
            APPLIED[unet] = self
        elif unet is not None:
            APPLIED.pop(unet, None)

    def _set_tokens(self, concepts: list[AppliedConcept]) -> None:
        import torch

        tokens = [token for concept in concepts for token in concept.tokens]
        for encoder, table in self.tables.items():
            rows = [table.rows(torch.from_numpy(c.delta.vectors[encoder]), c.delta.class_word) for c in concepts]
            table.set(tokens, torch.cat(rows) if tokens else None)

    def _set_weights(self, concepts: list[AppliedConcept]) -> None:
        """In prompt mode: each K and V weight with the values of each concept, in order, so that the last one's remain."""
        import torch

        from cnsctl.engine.overlay import site_weight

        if concepts and not self._before:
            self._before = {site: p.weight.detach().clone() for site, p in self.sites.items()}
        with torch.no_grad():
            for site, W in self._before.items():
                acting = [(_at(site, concept.delta, W.device), 1.0) for concept in concepts]
                # values are exact in fp16, so the cast to the dtype of the weight comes last
                self.sites[site].weight.copy_(site_weight(W.float(), site, acting, merged=True))
        if not concepts:
            self._before = {}

    def _own_tokens(self, concept: AppliedConcept) -> OwnTokens:
        from cnsctl.engine.overlay import site_weight
        from cnsctl.engine.own_tokens import OwnTokens

        def change(site: str) -> torch.Tensor:
            W = self._before.get(site, self.sites[site].weight).detach().float()
            return site_weight(W, site, [(_at(site, concept.delta, W.device), 1.0)]) - W

        ids = {encoder: table.ids(concept.tokens) for encoder, table in self.tables.items()}
        return OwnTokens(key=concept, name=concept.name, ids=ids, change=change)


def _at(site: str, delta: Delta, device: torch.device) -> Concept:
    """One site of a delta as tensors on a device; the other sites are converted when it is their turn."""
    import torch

    from cnsctl.engine.concepts import Concept

    return Concept(
        class_word=delta.class_word,
        vectors={},
        indices={site: torch.from_numpy(delta.indices[site]).to(device, torch.int64)},
        values={site: torch.from_numpy(delta.values[site]).to(device, torch.float32)},
        key="",
    )


def _forget_compiled() -> None:
    """Let torch.compile trace the modules again: a compiled graph does not notice that hooks were added or removed."""
    import torch

    if "torch._dynamo" in sys.modules:  # else nothing was compiled, and importing it takes seconds
        torch.compiler.reset()
