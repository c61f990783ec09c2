"""Fitting a LoRA to concepts of a base model, and what it does: effect kept, leak, error removed.

Owns the workflow from concepts to factors; must not know files or the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from cnsctl.bases.protocol import Slot
from cnsctl.concept import Mention, Prompt
from cnsctl.data.lora_prompts import calibration_prompts, measured_prompts
from cnsctl.data.prompt_grammar import render_class
from cnsctl.engine.denoising_error import errors_of_text, mean_error
from cnsctl.engine.feature_moments import Moments, finding_moments, significant
from cnsctl.engine.lora_fit import LEAK, RANK, fit, target
from cnsctl.engine.prompt_tokens import features, splice
from cnsctl.events import result_of
from cnsctl.metrics.error_removed import error_removed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from cnsctl.bases.protocol import Base
    from cnsctl.engine.concepts import Concept
    from cnsctl.formats.contents import Factors

Change = Callable[[str], torch.Tensor]
"""What a file adds to the weight of a site, (rows, columns) on the base model's device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a LoRA D does on prompts that it was not fitted on, in percent, over all sites.

    The size of an effect is the mean of ‖D·x‖², as the denoising error is a mean of squares.
    """

    kept: float
    """Of the deltas' effect on their own tokens: 100 · (1 - ‖(D - ΔW)·x‖² / ‖ΔW·x‖²). Negative if D is worse than nothing."""
    leak: float
    """Effect on other words, of what the whole differences would do there: 100 · ‖D·x‖² / ‖ΔW·x‖²."""
    leak_frame: float
    """The same at start, end and padding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A LoRA of one or several concepts."""

    factors: Mapping[str, Factors]
    """Per site."""
    effect: Effect


def fitted(base: Base, concepts: Mapping[str, Concept], *, rank: int = RANK, leak: float = LEAK) -> Fitted:
    """The result of `fitting`."""
    return result_of(fitting(base, concepts, rank=rank, leak=leak))


def fitting(
    base: Base, concepts: Mapping[str, Concept], *, rank: int = RANK, leak: float = LEAK
) -> Generator[tuple[int, int], None, Fitted]:
    """Fit one LoRA to concepts, each at its own tokens, and measure its effect.

    Args:
        base: of the concepts.
        concepts: by name; usually one.
        rank: of every site.
        leak: λ of `engine.lora_fit`.

    Yields:
        Prompts and sites that are done, and how many there are.
    """
    words = {name: concept.class_word for name, concept in concepts.items()}
    fit_on = [prompt for name, word in words.items() for prompt in calibration_prompts(name, word)]
    measure_on = [prompt for name, word in words.items() for prompt in measured_prompts(name, word)]
    total = len(fit_on) + len(measure_on) + len(base.sites)
    found: list[Moments] = []
    for prompts in (fit_on, measure_on):
        before = len(fit_on) if found else 0
        moments = yield from _counted(finding_moments(base, concepts, prompts), before, total)
        found.append(moments)
    prepared, measured = target(found[0], leak=leak), Measured(found[1])
    factors = {}
    for done, site in enumerate(base.sites, start=len(fit_on) + len(measure_on) + 1):
        changes = {name: difference(base, concept, site) for name, concept in concepts.items()}
        factors[site] = fit(changes, prepared, rank)
        measured.add(changes, factors[site])
        yield done, total
    return Fitted(factors=factors, effect=measured.effect())


def _counted(work: Generator[int, None, Moments], before: int, total: int) -> Generator[tuple[int, int], None, Moments]:
    while True:
        try:
            yield before + next(work), total
        except StopIteration as done:
            found: Moments = done.value
            return found


def difference(base: Base, concept: Concept, site: str) -> torch.Tensor:
    """ΔW of a site: (rows, columns) fp32 on the base model's device."""
    W = base.sites[site]
    found = torch.zeros_like(W)
    at = concept.indices[site]
    found.view(-1)[at] = concept.values[site] - W.reshape(-1)[at]
    return found


def change_of(base: Base, factors: Factors) -> torch.Tensor:
    """The product of the factors, columns) fp32 on the base model's device."""
    up, down = (torch.from_numpy(one).to(base.device) for one in (factors.up, factors.down))
    return up @ down


class Measured:
    """Sums over sites of squared effects, from the moments of the measured prompts."""

    def __init__(self, moments: Moments) -> None:
        self.own = {name: _root(C) for name, C in moments.own.items()}
        self.words, self.frame = _root(moments.words), _root(moments.frame)
        self.sums = dict.fromkeys(("lost", "own", "words", "all words", "frame", "all frame"), 0.0)

    def add(self, changes: Mapping[str, torch.Tensor], factors: Factors) -> None:
        """One site: ΔW per concept, on any device, and the LoRA D."""
        up, down = torch.from_numpy(factors.up), torch.from_numpy(factors.down)
        whole = torch.stack(list(changes.values())).sum(0)
        for name, R in self.own.items():
            own = (changes[name] @ R.to(whole)).cpu()
            self._add("own", own)
            self._add("lost", own - up @ (down @ R))
        for name, R in (("words", self.words), ("frame", self.frame)):
            self._add(f"all {name}", whole @ R.to(whole))
            self._add(name, up @ (down @ R))

    def _add(self, name: str, effect: torch.Tensor) -> None:
        self.sums[name] += float(effect.square().sum())

    def effect(self) -> Effect:
        share = {a: 100 * self.sums[a] / max(self.sums[b], 1e-30) for a, b in _OF.items()}
        return Effect(kept=100 - share["lost"], leak=share["words"], leak_frame=share["frame"])


_OF = {"lost": "own", "words": "all words", "frame": "all frame"}


def _root(C: torch.Tensor) -> torch.Tensor:
    """R with R·Rᵀ = C, (columns, k) fp32: then tr(D·C·Dᵀ) = ‖D·R‖²."""
    values, vectors = significant(C, floor=1e-7)  # of what is measured in percent
    return (vectors * values.sqrt()).float()


def error_removed_through(
    base: Base,
    name: str,
    concept: Concept,
    change: Change | None,
    latents: Sequence[torch.Tensor],
    *,
    noise_seed: int = 0,
) -> float:
    """Error removed, percent, by a file that adds `change` to the weights for all tokens of the prompt `a V* word`.

    It is measured as the store's own (`app.evaluate.removed_error`): against the base model with the class word.

    Args:
        base: of the concept.
        name: of the concept.
        concept: its token embeddings and class word are used, its delta is not.
        change: what the file adds to a site; None for the token embeddings alone.
        latents: of the concept's images, (c, h, w) each.
        noise_seed: of the noise.
    """
    asked = Prompt(text=f"a <{name}>", pieces=("a ", Mention(name=name)))
    plain = render_class(asked, {name: concept.class_word})
    with_ = errors_through(base, {name: concept}, asked, change, latents, noise_seed=noise_seed)
    bare = errors_through(base, {}, Prompt(text=plain, pieces=(plain,)), None, latents, noise_seed=noise_seed)
    return error_removed(mean_error(list(with_)), mean_error(list(bare)))


def errors_through(
    base: Base,
    concepts: Mapping[str, Concept],
    prompt: Prompt,
    change: Change | None,
    latents: Sequence[torch.Tensor],
    *,
    noise_seed: int = 0,
) -> Iterator[torch.Tensor]:
    """Denoising errors of the base model with changed weights, one per image as `denoising_error.errors_by_image`.

    Args:
        base: of the concepts.
        concepts: whose token embeddings the prompt contains.
        prompt: that names them.
        change: what is added to a site; None for nothing.
        latents: (c, h, w) each.
        noise_seed: of the noise.
    """
    slots = {n: Slot(name=n, class_word=c.class_word, n_vectors=c.n_vectors) for n, c in concepts.items()}
    with torch.no_grad():
        text = splice(base, prompt, slots)
        read = features(base, [text], {n: concepts[n].vectors for n in text.spans})
        kv = {
            site: F.linear(read.x, W if change is None else W + change(site), base.biases.get(site))
            for site, W in base.sites.items()
        }
    return errors_of_text(base, read, kv, latents, noise_seed=noise_seed)
