"""How deltas act: the K and V of a text.

K and V are computed once per text, from a temporary copy of each site. The base model's own weights are never written to.

Owns the three modes; must not know training, images or files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from cnsctl.bases.protocol import AS_TRAINED, Slot, TextFeatures
from cnsctl.concept import Mode, Prompt
from cnsctl.engine.prompt_tokens import SplicedText, features, splice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnsctl.bases.attention import KeysValues
    from cnsctl.bases.protocol import Base, TextOptions
    from cnsctl.engine.concepts import Concept


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlay:
    """The deltas that may act, and how."""

    mode: Mode
    concepts: Mapping[str, Concept]
    """By name, in training order. In merged mode all of them act on every prompt, so it must be the whole store."""
    _merged: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    def merged_weight(self, W: torch.Tensor, site: str) -> torch.Tensor:
        """In merged mode: a site's weight with all deltas, computed once."""
        if site not in self._merged:
            self._merged[site] = site_weight(W, site, [(c, 1.0) for c in self.concepts.values()], merged=True)
        return self._merged[site]

    def acting(self, prompt: Prompt) -> tuple[tuple[Concept, float], ...]:
        """The deltas that act on a text, in the order in which they are applied, with their scales.

        In prompt mode every named delta acts on every token. So n deltas with a scale other than 0 share: each acts at
        1/n of its scale.
        """
        if self.mode is Mode.MERGED:
            return tuple((c, 1.0) for c in self.concepts.values())
        sharing = sum(m.scale != 0 for m in prompt.mentions) if self.mode is Mode.PROMPT else 1
        return tuple((self.concepts[m.name], m.scale / max(1, sharing)) for m in prompt.mentions)

    def slots(self) -> dict[str, Slot]:
        """What represents each concept in a prompt."""
        return {n: Slot(name=n, class_word=c.class_word, n_vectors=c.n_vectors) for n, c in self.concepts.items()}

    def splice(self, base: Base, prompt: Prompt, options: TextOptions = AS_TRAINED, *, chunks: int = 1) -> SplicedText:
        return splice(base, prompt, self.slots(), options, chunks=chunks)


EMPTY = Overlay(mode=Mode.PROMPT, concepts={})
"""The base model alone."""


@torch.no_grad()
def text_keys_values(base: Base, overlay: Overlay, text: SplicedText) -> tuple[TextFeatures, dict[str, torch.Tensor]]:
    """The features of one text, (1, …), and K and V of every site, (1, t, rows), all fp32.

    One text at a time, so that its values do not depend on the other texts of a batch.
    """
    found = features(base, [text], {n: overlay.concepts[n].vectors for n in text.spans})
    X, acting = found.x, overlay.acting(text.prompt)
    if overlay.mode is Mode.TOKEN:
        own = {id(overlay.concepts[n]): list(at) for n, at in text.spans.items()}
        return found, {s: _token_projection(X, base, s, acting, own) for s in base.sites}
    if overlay.mode is Mode.MERGED:
        return found, {s: _linear(X, overlay.merged_weight(W, s), base, s) for s, W in base.sites.items()}
    return found, {s: _linear(X, site_weight(W, s, acting), base, s) for s, W in base.sites.items()}


@torch.no_grad()
def without_text(base: Base, chunks: int = 1) -> tuple[TextFeatures, dict[str, torch.Tensor]] | None:
    """Features, K and V that an empty negative prompt is read as; None if it is a text like any other."""
    found = base.without_text(chunks)
    return None if found is None else (found, {s: _linear(found.x, W, base, s) for s, W in base.sites.items()})


def _linear(X: torch.Tensor, W: torch.Tensor, base: Base, site: str) -> torch.Tensor:
    return F.linear(X, W, base.biases.get(site))


def site_weight(
    W: torch.Tensor, site: str, acting: Sequence[tuple[Concept, float]], *, merged: bool = False
) -> torch.Tensor:
    """The weight that K or V is computed with: W₀ itself, or a copy with the acting deltas.

    In merged mode values are set in training order, so that the last owner's value remains. Otherwise the weight is
    W₀ + Σ scale · (value − W₀).
    """
    if not acting:
        return W
    copy = W.clone()
    flat = copy.view(-1)
    for concept, scale in acting:
        at, values = concept.indices[site], concept.values[site]
        if merged or (len(acting) == 1 and scale == 1):
            flat[at] = values  # set, not added: exactly the trained value
        else:
            flat[at] += scale * (values - W.view(-1)[at])
    return copy


def _token_projection(
    X: torch.Tensor,
    base: Base,
    site: str,
    acting: Sequence[tuple[Concept, float]],
    own: Mapping[int, list[int]],
) -> torch.Tensor:
    W = base.sites[site]
    out = _linear(X, W, base, site)
    for concept, scale in acting:
        at = own[id(concept)]
        out[:, at] = _linear(X[:, at], site_weight(W, site, [(concept, scale)]), base, site)
    return out


def stacked(rows: Sequence[KeysValues]) -> dict[str, torch.Tensor]:
    """K and V of several texts as one batch."""
    return {site: torch.cat([row[site] for row in rows]) for site in rows[0]}


def joined(features: Sequence[TextFeatures]) -> TextFeatures:
    """The features of several texts as one batch."""

    def together(name: str) -> torch.Tensor | None:
        found = [getattr(one, name) for one in features]
        return None if found[0] is None else torch.cat(found)

    x = together("x")
    assert x is not None
    return TextFeatures(x=x, mask=together("mask"), pooled=together("pooled"))
