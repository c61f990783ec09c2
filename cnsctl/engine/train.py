"""Learning one concept: the token first, then the score, then the values on its neurons.

Owns the phases and what they tell; must not know files, the store or terminals.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnsctl import __version__
from cnsctl.engine import neurons
from cnsctl.engine.prompt_tokens import Token, features, splice
from cnsctl.engine.seeds import fold
from cnsctl.engine.trainer import Job, Learner
from cnsctl.engine.training_state import state_from_bytes
from cnsctl.results import Event, Learned, Note, Phase, Selected, Step
from cnsctl.specs import Delta, LearnSpec, Mode, Policy

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from cnsctl.bases.protocol import Base
    from cnsctl.engine.checkpoint import Checkpoint

TOKEN, VALUES = "train the token", "train the neurons"

Chooser = Callable[["Base", Job, "Mapping[str, torch.Tensor]", "Mapping[str, torch.Tensor]"], neurons.Mask]
"""From base, job, learned token vectors and the weights trained on: the neurons to train."""


def learn(
    base: Base,
    job: Job,
    *,
    resume: bytes | None = None,
    checkpoint: Checkpoint | None = None,
    choose: Chooser | None = None,
) -> Generator[Event, None, None]:
    """Learn one concept; the last event is `Learned`.

    A run that is resumed from a checkpoint ends bit-identical to an uninterrupted one.

    Args:
        base: is not changed.
        job: what to learn, and how.
        resume: what `Checkpoint.to_bytes` gave.
        checkpoint: has the state after the last whole step, also when this generator fails or is closed.
        choose: selects the neurons instead of the score: controls of benchmarks.
    """
    with _deterministic(base.device):
        yield from _learn(base, job, resume, checkpoint, scored_neurons if choose is None else choose)


def _learn(
    base: Base, job: Job, resume: bytes | None, checkpoint: Checkpoint | None, choose: Chooser
) -> Iterator[Event]:
    learner = Learner(base, job)
    job_hash = hash_of(base, job)

    def take() -> None:
        if checkpoint is not None:
            checkpoint.take(learner.state(job_hash))

    if resume is not None:
        state = state_from_bytes(resume, job=job_hash)
        if state is None:
            yield Note(text="saved training state ignored: images or settings differ; training starts at step 0")
        else:
            learner.resume(state)
            take()
            yield Note(text=f"training resumes after step {state.step}")
    yield from _warm_up(learner, take)
    if learner.values is None:
        mask = choose(base, job, learner.vectors, learner.start)
        selected = _selected(base, job, mask, chance_neurons(base, job.spec))
    else:  # selected before the run was interrupted, with the token as it was then
        selected = _selected(base, job, learner.values.mask, chance_neurons(base, job.spec))
    yield selected
    if learner.values is None:
        learner.train_on({s: torch.from_numpy(m).to(base.device) for s, m in selected.mask.items()})
        take()
    if (projection := learner.projection) is not None and projection.full_rows:
        yield Note(
            text=f"{projection.full_rows:,} of {projection.used_rows:,} rows have no direction left that earlier "
            "concepts do not read: they learn nothing"
        )
    yield from _steps(learner, VALUES, until=job.spec.steps, since=learner.warmup, take=take)
    yield Learned(delta=_delta(learner), selected=selected, final_loss=_final_loss(learner))


def score(base: Base, job: Job) -> Iterator[Event]:
    """Everything `learn` does up to the mask, and no further: the mask is `learn`'s, byte for byte."""
    with _deterministic(base.device):
        learner = Learner(base, job)
        yield from _warm_up(learner, lambda: None)
        yield select(base, job, learner.vectors, learner.start)


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Use torch's deterministic algorithms, so that the same seed gives the same delta.

    CPUs need them too: gradients of gathered rows are otherwise added up by whichever thread comes first. On CUDA
    nothing less than refusing the others makes attention's backward deterministic; MPS lacks some, and is warned of.
    """
    deterministic: Any = torch.utils.deterministic
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(mode=True, warn_only=device.type != "cuda")
    deterministic.fill_uninitialized_memory = False  # for programs that read what they did not write; it costs 3 %
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)
        deterministic.fill_uninitialized_memory = filled


def _warm_up(learner: Learner, take: Callable[[], None]) -> Iterator[Event]:
    yield from _steps(learner, TOKEN, until=learner.warmup, since=0, take=take)


def _steps(learner: Learner, phase: str, *, until: int, since: int, take: Callable[[], None]) -> Iterator[Event]:
    if learner.done >= until:
        return
    yield Phase(name=phase, total=until - since)
    while learner.done < until:
        loss = learner.step()
        take()
        yield Step(phase=phase, step=learner.done - since, total=until - since, loss=loss)


def select(base: Base, job: Job, vectors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> Selected:
    """Score with the learned token and select the concept's neurons."""
    return _selected(base, job, scored_neurons(base, job, vectors, weights), chance_neurons(base, job.spec))


def scored_neurons(
    base: Base, job: Job, vectors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> neurons.Mask:
    """The concept's neurons by score with the learned token; a random mask where the job asks for one."""
    spec = job.spec
    if spec.random_mask:
        # each concept has a mask of its own: with one for all, the concepts of a store would own the same neurons
        return neurons.random_neurons(base, budget=spec.budget, seed=fold("random", job.name, spec.seed))
    token = Token(class_word=job.class_word, n_vectors=spec.vectors)
    distinct = {p.text: p for prompts in job.texts for p in prompts}
    texts = [splice(base, p, {job.name: token}) for p in distinct.values()]
    policy = spec.policy if job.mode is Mode.MERGED else Policy.OVERLAP
    with torch.no_grad():
        norms = neurons.token_norms(features(base, texts, {job.name: vectors}), texts)
        return neurons.concept_neurons(
            base,
            weights,
            norms,
            budget=spec.budget,
            general=job.general,
            owned=None if policy is Policy.OVERLAP else neurons.owned_entries(base, job.owned),
            policy=policy,
            select=spec.select,
        )


def chance_neurons(base: Base, spec: LearnSpec) -> neurons.Mask:
    """A random mask to compare overlaps with; another one than that of the control, `--random-mask`."""
    return neurons.random_neurons(base, budget=spec.budget, seed=fold("chance", spec.seed))


def _selected(base: Base, job: Job, mask: neurons.Mask, chance: neurons.Mask) -> Selected:
    n = sum(len(m) for m in mask.values())
    return Selected(
        neurons=n,
        share=n / sum(W.numel() for W in base.sites.values()),
        sites={s: len(m) for s, m in mask.items()},
        general={s: float(g.float().mean()) for s, g in job.general.items()},
        shared=neurons.shared_with(mask, job.owned),
        shared_random=neurons.shared_with(chance, job.owned),
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


def _final_loss(learner: Learner) -> float:
    last = learner.losses[-max(1, len(learner.losses) // 5) :]
    return sum(last) / len(last) if last else math.nan


def _delta(learner: Learner) -> Delta:
    """Round to fp16: what is verified later is exactly what is stored."""
    base, job = learner.base, learner.job
    if learner.values is None:
        raise RuntimeError("no values were trained")
    spec = {k: (str(v) if isinstance(v, StrEnum) else v) for k, v in asdict(job.spec).items()}
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
