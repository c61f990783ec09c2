"""Learning one concept: the token first, then the score, then the values on its neurons.

Owns the training loop; must not know files, the store or terminals.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from cnsctl import __version__
from cnsctl.engine import neurons, optim
from cnsctl.engine.overlay import Overlay, bound, site_weight
from cnsctl.engine.projection import Projection, directions
from cnsctl.engine.seeds import fold, stream
from cnsctl.engine.state import TrainState, state_from_bytes, state_to_bytes
from cnsctl.engine.text import SplicedText, Token, features, splice
from cnsctl.errors import CnsctlError
from cnsctl.results import Checkpoint, Event, Learned, Note, Phase, Selected, Step
from cnsctl.specs import Delta, LearnSpec, Mode, Policy, Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cnsctl.bases.protocol import Base

CHECKPOINT_STEPS = 25
"""Steps between two resumable states: seconds of work on pocket, a fraction of a second to write."""

TOKEN, VALUES = "train the token", "train the neurons"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One concept to learn."""

    name: str
    class_word: str
    latents: torch.Tensor
    """(n, c, h, w) fp32 on the CPU."""
    texts: Sequence[Sequence[Prompt]]
    """Per picture: the prompts that may stand for it."""
    spec: LearnSpec
    mode: Mode
    prior: Overlay
    """In merged: all earlier concepts. Elsewhere a concept is learned against the base alone."""
    general: Mapping[str, torch.Tensor]
    """General neurons, per site (rows, columns) bool."""
    others: Mapping[str, neurons.Mask]
    """Masks of the concepts in the store, for policies and reports."""


Chooser = Callable[["Base", Job, "Mapping[str, torch.Tensor]", "Mapping[str, torch.Tensor]"], neurons.Mask]
"""From base, job, learned token vectors and the weights trained on: the neurons to train."""


class _Learner:
    """The state of one training: vectors, values and their optimizers."""

    def __init__(self, base: Base, job: Job) -> None:
        self.base, self.job, spec = base, job, job.spec
        self.token = Token(class_word=job.class_word, n_vectors=spec.vectors)
        mean = {e: t.mean(0) for e, t in base.embeddings(base.token_ids(job.class_word)).items()}
        self.vectors = {e: torch.nn.Parameter(m.repeat(spec.vectors, 1)) for e, m in mean.items()}
        if spec.vectors > 1:  # equal vectors would get equal gradients for ever
            for e, v in self.vectors.items():
                spread = torch.randn(v.shape, generator=stream("vectors", spec.seed, e)).to(v.device)
                v.data += 0.05 * mean[e].std() * spread
        self.vector_optimizers = {e: optim.adamw(v, spec.rate_vectors) for e, v in self.vectors.items()}
        self.start = _starting_weights(base, job)
        self.values: optim.IndexedValues | None = None
        self.value_optimizer: torch.optim.AdamW | None = None
        self.projection: Projection | None = None
        known = {p.text: splice(base, p, {job.name: self.token}) for prompts in job.texts for p in prompts}
        self.texts = [[known[p.text] for p in prompts] for prompts in job.texts]  # one object per text: encoded once
        self.warmup = min(spec.steps, max(0, round(spec.warmup * spec.steps)))
        self.done = 0
        self.losses: list[float] = []

    def train_on(self, mask: neurons.Mask) -> None:
        """From now on values on this mask are trained too."""
        self.values = optim.IndexedValues(self.start, mask)
        self.value_optimizer = optim.adamw(self.values.values, self.job.spec.rate_values)
        self.pull = _Pull(self.base, self.job, self.values)
        if self.job.spec.orthogonal and self.job.prior.concepts:
            shapes = {s: (W.shape[0], W.shape[1]) for s, W in self.base.sites.items()}
            self.projection = Projection(directions(self.base, self.job.prior), mask, shapes)

    def step(self) -> float:
        """One optimizer step; returns the denoising loss."""
        spec, base = self.job.spec, self.base
        draw = stream("train", spec.seed, self.done)
        n = len(self.job.latents)
        rows = [int(i) for i in _spread_choice(n, spec.batch, draw)]
        texts = [self.texts[i][int(torch.randint(len(self.texts[i]), (1,), generator=draw))] for i in rows]
        u = (torch.arange(spec.batch) + torch.rand(spec.batch, generator=draw)) / spec.batch
        times = (u * base.n_times).long().clamp(max=base.n_times - 1)[torch.randperm(spec.batch, generator=draw)]
        latents = self.job.latents[rows].to(base.device)
        noise = torch.randn(latents.shape, generator=draw).to(base.device)
        noisy, target = base.noised(latents, noise, times)
        with bound(base, self._keys_values(texts)):
            loss = F.mse_loss(base.denoise(noisy, times), target)
            loss.backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(found := float(loss.detach())):
            raise CnsctlError(f"the loss is {found} at step {self.done + 1}", hint="use lower --lr and --lr-token")
        self._update()
        self.done += 1
        self.losses.append(found)
        return found

    def _keys_values(self, texts: Sequence[SplicedText]) -> dict[str, torch.Tensor]:
        distinct = list({id(t): t for t in texts}.values())
        at = {id(t): i for i, t in enumerate(distinct)}
        back = torch.tensor([at[id(t)] for t in texts], device=self.base.device)
        X = features(self.base, distinct, {self.job.name: self.vectors})  # (d, t, width)
        if self.values is None:
            return {s: F.linear(X, W)[back] for s, W in self.start.items()}
        leaves = self.values.leaves
        if self.job.mode is not Mode.TOKEN:
            return {s: F.linear(X, leaves[s])[back] for s in self.start}
        own = torch.zeros((len(distinct), self.base.text_length, 1), dtype=torch.bool, device=X.device)
        for i, text in enumerate(distinct):
            own[i, list(text.spans[self.job.name])] = True
        return {s: torch.where(own, F.linear(X, leaves[s]), F.linear(X, W))[back] for s, W in self.start.items()}

    def _update(self) -> None:
        decay = _decay(self.done, self.job.spec.steps)
        optimizers = list(self.vector_optimizers.values())
        rates = [self.job.spec.rate_vectors] * len(optimizers)
        if self.values is not None and self.value_optimizer is not None:
            self.values.collect_gradient()
            self.pull.add_to_gradient()
            optimizers.append(self.value_optimizer)
            rates.append(self.job.spec.rate_values)
        before = self.values.values.detach().clone() if self.values is not None and self.projection else None
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * decay
            optimizer.step()
        if before is not None:
            self._project(before)
        for v in self.vectors.values():
            v.grad = None
        if self.values is not None:
            self.values.write_back()

    @torch.no_grad()
    def _project(self, before: torch.Tensor) -> None:
        """Take out of the step's update what earlier concepts would notice."""
        assert self.values is not None
        assert self.projection is not None
        v = self.values.values
        for site, part in self.values.parts.items():
            v[part] = before[part] + self.projection.off(site, v[part] - before[part])

    def state(self, job_hash: str) -> TrainState:
        tensors: dict[str, torch.Tensor] = {}
        for e, v in self.vectors.items():
            tensors[f"vectors.{e}"] = v.detach()
            tensors |= optim.moments(self.vector_optimizers[e], f"vectors.{e}")
        if self.values is not None and self.value_optimizer is not None:
            tensors["values"] = self.values.values.detach()
            tensors |= optim.moments(self.value_optimizer, "values")
            tensors |= {f"mask.{site}": flat for site, flat in self.values.mask.items()}
        return TrainState(step=self.done, job=job_hash, losses=tuple(self.losses), tensors=tensors)

    @torch.no_grad()
    def resume(self, state: TrainState) -> None:
        self.done, self.losses = state.step, list(state.losses)
        for e, v in self.vectors.items():
            v.copy_(state.tensors[f"vectors.{e}"])
            optim.restore_moments(self.vector_optimizers[e], f"vectors.{e}", state.tensors)
        if "values" in state.tensors:
            self.train_on({site: state.tensors[f"mask.{site}"].to(self.base.device) for site in self.base.sites})
            assert self.values is not None
            assert self.value_optimizer is not None
            self.values.values.copy_(state.tensors["values"])
            optim.restore_moments(self.value_optimizer, "values", state.tensors)
            self.values.write_back()


class _Pull:
    """Self-regularization of merged: λ_prev‖(W − W_prev)⊙(M∩owned)‖² + λ_base‖(W − W₀)⊙M‖² (CNS, L_reg)."""

    def __init__(self, base: Base, job: Job, values: optim.IndexedValues) -> None:
        self.values, spec = values, job.spec
        self.on = job.mode is Mode.MERGED and (spec.lambda_prev > 0 or spec.lambda_base > 0)
        if not self.on:
            return
        owned = neurons.owned_entries(base, job.others.values())
        self.before = values.values.detach().clone()
        self.base = torch.cat([base.sites[s].reshape(-1)[flat] for s, flat in values.mask.items()])
        marked = torch.cat([owned[s].view(-1)[flat] for s, flat in values.mask.items()])
        self.prev = spec.lambda_prev * marked.float()
        self.weight = spec.lambda_base

    @torch.no_grad()
    def add_to_gradient(self) -> None:
        if self.on:
            v = self.values.values
            assert v.grad is not None
            v.grad += 2 * self.prev * (v - self.before) + 2 * self.weight * (v - self.base)


def learn(base: Base, job: Job, *, resume: bytes | None = None, choose: Chooser | None = None) -> Iterator[Event]:
    """Learn one concept; the last event is `Learned`.

    A run that is resumed from a `Checkpoint` ends bit-identical to an unbroken one.

    Args:
        base: is not changed.
        job: what to learn, and how.
        resume: a `Checkpoint`'s state.
        choose: selects the neurons instead of the score: controls of benchmarks.
    """
    with _deterministic():
        yield from _learn(base, job, resume, scored_neurons if choose is None else choose)


def _learn(base: Base, job: Job, resume: bytes | None, choose: Chooser) -> Iterator[Event]:
    learner = _Learner(base, job)
    job_hash = hash_of(base, job)
    if resume is not None:
        state = state_from_bytes(resume, job=job_hash)
        if state is None:
            yield Note(text="an unfinished run was found, of other pictures or settings: this one starts anew")
        else:
            learner.resume(state)
            yield Note(text=f"an unfinished run was found: it goes on after step {state.step}")
    yield from _warm_up(learner, job_hash)
    if learner.values is None:
        mask = choose(base, job, learner.vectors, learner.start)
        selected = _selected(base, job, mask, _chance(base, job))
    else:  # selected before the run was interrupted, with the token as it was then
        selected = _selected(base, job, learner.values.mask, _chance(base, job))
    yield selected
    if learner.values is None:
        learner.train_on({s: torch.from_numpy(m).to(base.device) for s, m in selected.mask.items()})
    if (projection := learner.projection) is not None and projection.full_rows:
        yield Note(
            text=f"{projection.full_rows:,} of {projection.used_rows:,} rows have no direction left that earlier "
            "concepts do not read: they learn nothing"
        )
    yield from _steps(learner, VALUES, until=job.spec.steps, since=learner.warmup, job_hash=job_hash)
    yield Learned(delta=_delta(learner), selected=selected, final_loss=_final_loss(learner))


def score(base: Base, job: Job) -> Iterator[Event]:
    """Everything `learn` does up to the mask, and no further: the mask is `learn`'s, byte for byte."""
    with _deterministic():
        learner = _Learner(base, job)
        yield from _warm_up(learner, hash_of(base, job))
        yield select(base, job, learner.vectors, learner.start)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Use torch's deterministic algorithms, where it has them, so that the same seed gives the same delta.

    CPUs need them too: gradients of gathered rows are otherwise added up by whichever thread comes first.
    """
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)


def _warm_up(learner: _Learner, job_hash: str) -> Iterator[Event]:
    yield from _steps(learner, TOKEN, until=learner.warmup, since=0, job_hash=job_hash)


def _steps(learner: _Learner, phase: str, *, until: int, since: int, job_hash: str) -> Iterator[Event]:
    if learner.done >= until:
        return
    yield Phase(name=phase, total=until - since)
    while learner.done < until:
        loss = learner.step()
        yield Step(phase=phase, step=learner.done - since, total=until - since, loss=loss)
        if learner.done % CHECKPOINT_STEPS == 0:
            yield Checkpoint(state=state_to_bytes(learner.state(job_hash)))


def select(base: Base, job: Job, vectors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> Selected:
    """Score with the learned token and select the concept's neurons."""
    return _selected(base, job, scored_neurons(base, job, vectors, weights), _chance(base, job))


def scored_neurons(
    base: Base, job: Job, vectors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> neurons.Mask:
    """The concept's neurons by score with the learned token; a random mask where the job asks for one."""
    spec = job.spec
    if spec.random_mask:
        return neurons.random_neurons(base, budget=spec.budget, seed=spec.seed)
    token = Token(class_word=job.class_word, n_vectors=spec.vectors)
    distinct = {p.text: p for prompts in job.texts for p in prompts}
    texts = [splice(base, p, {job.name: token}) for p in distinct.values()]
    owned = neurons.owned_entries(base, job.others.values())
    with torch.no_grad():
        norms = neurons.token_norms(features(base, texts, {job.name: vectors}), texts)
        return neurons.concept_neurons(
            base,
            weights,
            norms,
            budget=spec.budget,
            general=job.general,
            owned=owned,
            policy=spec.policy if job.mode is Mode.MERGED else Policy.OVERLAP,
        )


def _chance(base: Base, job: Job) -> neurons.Mask:
    """A random mask to compare with; another one than the control's."""
    return neurons.random_neurons(base, budget=job.spec.budget, seed=fold("chance", job.spec.seed))


def _selected(base: Base, job: Job, mask: neurons.Mask, chance: neurons.Mask) -> Selected:
    owned = neurons.owned_entries(base, job.others.values())
    n = sum(len(m) for m in mask.values())
    return Selected(
        neurons=n,
        share=n / sum(W.numel() for W in base.sites.values()),
        sites={s: len(m) for s, m in mask.items()},
        general={s: float(g.float().mean()) for s, g in job.general.items()},
        shared=neurons.shared_with(mask, owned),
        shared_random=neurons.shared_with(chance, owned),
        mask={s: m.cpu().numpy() for s, m in mask.items()},
    )


def hash_of(base: Base, job: Job) -> str:
    """What a state belongs to: base, pictures, texts, settings, and in merged the overlay it stands on."""
    settings: dict[str, Any] = asdict(replace(job.spec))
    meaning = {
        "versions": [__version__, torch.__version__],
        "base": base.fingerprint,
        "device": base.device.type,
        "dtype": str(base.dtype),
        "class": job.class_word,
        "mode": job.mode,
        "spec": settings,
        "texts": [[[p if isinstance(p, str) else p.scale for p in q.pieces] for q in ps] for ps in job.texts],
        "prior": [c.key for c in job.prior.concepts.values()],
    }
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(job.latents.numpy()).tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _starting_weights(base: Base, job: Job) -> dict[str, torch.Tensor]:
    if job.mode is not Mode.MERGED:
        return dict(base.sites)
    acting = [(c, 1.0) for c in job.prior.concepts.values()]
    return {s: site_weight(W, s, acting, merged=True) for s, W in base.sites.items()}


def _spread_choice(n: int, k: int, generator: torch.Generator) -> list[int]:
    """K of n, each as often as the others: whole shuffles, then a part of one."""
    out: list[int] = []
    while len(out) < k:
        out += torch.randperm(n, generator=generator).tolist()
    return out[:k]


def _decay(step: int, steps: int) -> float:
    """Cosine from 1 to 0.05 over the whole run."""
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))


def _final_loss(learner: _Learner) -> float:
    last = learner.losses[-max(1, len(learner.losses) // 5) :]
    return sum(last) / len(last) if last else math.nan


def _delta(learner: _Learner) -> Delta:
    """Round to fp16: what is verified later is exactly what is stored."""
    base, job = learner.base, learner.job
    if learner.values is None:
        raise RuntimeError("no values were trained")
    spec = {k: (str(v) if isinstance(v, Policy) else v) for k, v in asdict(job.spec).items()}
    values = {s: v.cpu().numpy().astype(np.float16) for s, v in learner.values.by_site().items()}
    return Delta(
        shapes={s: (int(W.shape[0]), int(W.shape[1])) for s, W in base.sites.items()},
        indices={s: m.cpu().numpy() for s, m in learner.values.mask.items()},
        values=values,
        vectors={e: v.detach().cpu().numpy().astype(np.float16) for e, v in learner.vectors.items()},
        class_word=job.class_word,
        fingerprint=base.fingerprint,
        mode=job.mode,
        recipe={**spec, "pictures": len(job.latents), "device": base.device.type, "dtype": str(base.dtype)[6:]},
    )
