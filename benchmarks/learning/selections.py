"""Which neurons are trained: those of the score, and its controls.

Owns the controls; must not know data or tables. Each is a `Chooser` for `engine.train.train`, of the same size as the
score's selection unless its name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from cnsctl.engine import neurons
from cnsctl.engine.prompt_tokens import SplicedText, features, splice
from cnsctl.engine.train import scored_neurons
from cnsctl.events import result_of
from cnsctl.settings import Select

if TYPE_CHECKING:
    from cnsctl.bases.protocol import Base
    from cnsctl.engine.job import Job
    from cnsctl.engine.neurons import Mask

Tensors = Mapping[str, torch.Tensor]


def score(base: Base, job: Job, vectors: Tensors, weights: Tensors) -> Mask:
    """CNS: what `cnsctl add` trains."""
    return scored_neurons(base, job, vectors, weights)


def random_mask(base: Base, job: Job, vectors: Tensors, weights: Tensors) -> Mask:
    """A random mask of the same size, site by site."""
    return scored_neurons(base, replace(job, settings=replace(job.settings, random_mask=True)), vectors, weights)


def everything(base: Base, _job: Job, _vectors: Tensors, _weights: Tensors) -> Mask:
    """All K/V weights."""
    return {site: torch.arange(W.numel(), device=W.device) for site, W in base.sites.items()}


def one_per_site(base: Base, _job: Job, _vectors: Tensors, _weights: Tensors) -> Mask:
    """One neuron per site: with a warmup of 1 only the token embedding is trained."""
    return {site: torch.zeros(1, dtype=torch.long, device=W.device) for site, W in base.sites.items()}


def keys(base: Base, job: Job, vectors: Tensors, weights: Tensors) -> Mask:
    """K alone, twice as many in each site."""
    return _only("to_k", base, job, vectors, weights)


def values(base: Base, job: Job, vectors: Tensors, weights: Tensors) -> Mask:
    """V alone, twice as many in each site."""
    return _only("to_v", base, job, vectors, weights)


def with_general(base: Base, job: Job, vectors: Tensors, weights: Tensors) -> Mask:
    """Base neurons, including general neurons."""
    none = {site: torch.zeros_like(general) for site, general in job.general.items()}
    return scored_neurons(base, replace(job, general=none), vectors, weights)


def intersect(base: Base, job: Job, vectors: Tensors, weights: Tensors) -> Mask:
    """The paper's mask: base neurons that are not general, fewer than the budget (`cnsctl add --select intersect`)."""
    return scored_neurons(base, replace(job, settings=replace(job.settings, select=Select.INTERSECT)), vectors, weights)


def rows(base: Base, job: Job, vectors: Tensors, weights: Tensors) -> Mask:
    """Whole rows: those with the highest sum of scores."""
    norms = _norms(base, job, vectors, lambda text: text.tokens.real)
    mask = {}
    for site, W in weights.items():
        n = max(1, round(job.settings.budget * W.shape[0]))
        best = neurons.importance(W, norms).sum(1).topk(n).indices.sort().values
        mask[site] = (best[:, None] * W.shape[1] + torch.arange(W.shape[1], device=W.device)).flatten()
    return mask


def own_tokens(base: Base, job: Job, vectors: Tensors, weights: Tensors) -> Mask:
    """Scored at V* and the class word, not at every real token."""
    norms = _norms(base, job, vectors, lambda text: text.spans[job.name])
    return result_of(
        neurons.finding_concept_neurons(base, weights, norms, budget=job.settings.budget, general=job.general)
    )


def vectors_alone(base: Base, job: Job, vectors: Tensors, weights: Tensors) -> Mask:
    """Scored at V* alone."""
    norms = _norms(base, job, vectors, lambda text: next(iter(text.tokens.places.values())))
    return result_of(
        neurons.finding_concept_neurons(base, weights, norms, budget=job.settings.budget, general=job.general)
    )


SELECTIONS: dict[str, Callable[[Base, Job, Tensors, Tensors], Mask]] = {
    "CNS": score,
    "random": random_mask,
    "V* alone": one_per_site,
    "all K/V": everything,
    "K alone": keys,
    "V alone": values,
    "general kept": with_general,
    "intersect": intersect,
    "rows": rows,
    "scored at V* + class": own_tokens,
    "scored at V*": vectors_alone,
}


def _only(kind: str, base: Base, job: Job, vectors: Tensors, weights: Tensors) -> Mask:
    double = replace(job, settings=replace(job.settings, budget=min(1.0, 2 * job.settings.budget)))
    mask = scored_neurons(base, double, vectors, weights)
    return {site: flat if site.endswith(kind) else flat[:0] for site, flat in mask.items()}


def _norms(base: Base, job: Job, vectors: Tensors, where: Callable[[SplicedText], Sequence[int]]) -> torch.Tensor:
    """‖X[:, j]‖₂ of the training texts, at the positions that `where` gives."""
    distinct = {p.text: p for prompts in job.texts for p in prompts}
    texts = [splice(base, p, {job.name: job.slot}) for p in distinct.values()]
    with torch.no_grad():
        X = features(base, texts, {job.name: vectors}).x
        read = torch.cat([x[list(where(t))] for x, t in zip(X, texts, strict=True)])
        return read.float().square().sum(0).sqrt()
