"""Training one concept: first the token embedding, then the score, then the values of its neurons.

Owns the phases and their events; must not know files, the store or terminals.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnsctl import __version__
from cnsctl.concept import Delta, Mode
from cnsctl.engine import neurons
from cnsctl.engine.job import Job
from cnsctl.engine.processes import ALONE, Processes
from cnsctl.engine.prompt_tokens import features, splice
from cnsctl.engine.seeds import fold
from cnsctl.engine.trainer import Trainer
from cnsctl.engine.training_state import DamagedState, TrainState, state_from_bytes
from cnsctl.errors import NameTakenError
from cnsctl.events import Event, Note, Phase, Selected, Step, result_of
from cnsctl.settings import Policy, TrainSettings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from cnsctl.bases.protocol import Base
    from cnsctl.engine.checkpoint import Checkpoint

TOKEN, SELECT, VALUES = "train the token embedding", "select the neurons", "train the neurons"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A trained concept; nothing is saved yet."""

    delta: Delta
    selected: Selected
    final_loss: float
    """Mean loss of the last fifth of the steps."""


Chooser = Callable[["Base", Job, "Mapping[str, torch.Tensor]", "Mapping[str, torch.Tensor]"], neurons.Mask]
"""From the base model, the job, the trained token embeddings and the starting weights: the neurons to train."""


def train(
    base: Base,
    job: Job,
    *,
    resume: bytes | None = None,
    checkpoint: Checkpoint | None = None,
    choose: Chooser | None = None,
    processes: Processes = ALONE,
) -> Generator[Event, None, Trained]:
    """Train one concept.

    A run that is resumed from a checkpoint ends bit-identical to an uninterrupted one.

    Args:
        base: is not changed.
        job: what to train, and how.
        resume: the bytes of `Checkpoint.to_bytes`.
        checkpoint: receives the state after each complete step, also if this generator fails or is closed.
        choose: selects the neurons instead of the score; for controls in benchmarks.
        processes: that share each step.
    """
    with _deterministic(base.device):
        return (yield from _train(Trainer(base, job, processes), resume, checkpoint, choose))


def _train(
    trainer: Trainer, resume: bytes | None, checkpoint: Checkpoint | None, choose: Chooser | None
) -> Generator[Event, None, Trained]:
    base, job = trainer.base, trainer.job
    if job.mode is Mode.MERGED and job.settings.policy is Policy.EXCLUSIVE:  # before the token embedding is trained
        for owned in neurons.owned_entries(base, job.owned).values():
            neurons.refuse_full(owned, job.settings.budget)
    parts = parts_of(base, job)

    def take() -> None:
        if checkpoint is not None:
            checkpoint.take(trainer.state(parts))

    if resume is not None:
        try:
            trainer.resume(state := _resumable(resume, job.name, parts))
        except DamagedState as err:
            yield Note(text=f"the saved training state is damaged: {err}; training starts at step 0")
        else:
            take()
            yield Note(text=f"training resumes after step {state.step}")
    yield from _warm_up(trainer, take)
    selected = yield from _select(trainer, choose)
    yield selected
    if trainer.values is None:
        trainer.train_on({s: torch.from_numpy(m).to(base.device) for s, m in selected.mask.items()})
        take()
    if (projection := trainer.projection) is not None and projection.full_rows:
        yield Note(
            text=f"{projection.full_rows:,} of {projection.used_rows:,} rows are not trained: earlier concepts read all "
            "of their directions"
        )
    yield from _steps(trainer, VALUES, until=job.settings.steps, since=trainer.warmup, take=take)
    return Trained(delta=_delta(trainer), selected=selected, final_loss=_final_loss(trainer))


def score(base: Base, job: Job) -> Iterator[Event]:
    """Do what `train` does up to the selection: the mask is the same, byte for byte."""
    with _deterministic(base.device):
        trainer = Trainer(base, job)
        yield from _warm_up(trainer, lambda: None)
        yield (yield from _select(trainer, None))


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Use torch's deterministic algorithms, so that the same seed gives the same delta.

    CPUs need them too: otherwise the order in which threads add up gradients of gathered rows varies. On CUDA the
    backward pass of attention is deterministic only if other algorithms raise an error. MPS lacks some deterministic
    algorithms, so that torch warns instead.
    """
    deterministic: Any = torch.utils.deterministic
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(mode=True, warn_only=device.type != "cuda")
    deterministic.fill_uninitialized_memory = (
        False  # it helps only programs that read uninitialized memory, and costs 3 %
    )
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)
        deterministic.fill_uninitialized_memory = filled


def _warm_up(trainer: Trainer, take: Callable[[], None]) -> Iterator[Event]:
    yield from _steps(trainer, TOKEN, until=trainer.warmup, since=0, take=take)


def _steps(trainer: Trainer, phase: str, *, until: int, since: int, take: Callable[[], None]) -> Iterator[Event]:
    if trainer.done >= until:
        return
    yield Phase(name=phase, total=until - since)
    while trainer.done < until:
        loss = trainer.step()
        take()
        yield Step(phase=phase, step=trainer.done - since, total=until - since, loss=loss)


def _select(trainer: Trainer, choose: Chooser | None) -> Generator[Event, None, Selected]:
    """Select the concept's neurons, and those of a random mask to compare overlaps with; counts the sites of both."""
    base, job, sites = trainer.base, trainer.job, len(trainer.base.shapes)
    yield Phase(name=SELECT, total=2 * sites)
    mask: neurons.Mask
    if trainer.values is not None:  # selected before the run was interrupted, with the token embedding of that step
        mask = trainer.values.mask
    elif choose is not None:
        mask = choose(base, job, trainer.vectors, trainer.start)
    else:
        work = finding_scored_neurons(base, job, trainer.vectors, trainer.start)
        mask = yield from _by_site(work, since=0, total=2 * sites)
    if trainer.values is None:  # other devices may round a score in another way
        mask = trainer.processes.from_main({s: m.cpu() for s, m in mask.items()})
    # not the mask of `random_mask`
    compared = neurons.finding_random_neurons(base, budget=job.settings.budget, seed=fold("chance", job.settings.seed))
    comparison = yield from _by_site(compared, since=sites, total=2 * sites)
    return _selected(base, job, mask, comparison)


def _by_site(
    work: Generator[int, None, neurons.Mask], *, since: int, total: int
) -> Generator[Event, None, neurons.Mask]:
    """Count the sites of a selection."""
    with closing(work):
        while True:
            try:
                done = next(work)
            except StopIteration as end:
                mask: neurons.Mask = end.value
                return mask
            yield Step(phase=SELECT, step=since + done, total=total)


def scored_neurons(
    base: Base, job: Job, vectors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> neurons.Mask:
    """The result of `finding_scored_neurons`."""
    return result_of(finding_scored_neurons(base, job, vectors, weights))


@torch.no_grad()
def finding_scored_neurons(
    base: Base, job: Job, vectors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> Generator[int, None, neurons.Mask]:
    """The concept's neurons by score with the trained token embedding; a random mask if the settings ask for it.

    Yields:
        The sites that are done.
    """
    settings = job.settings
    if settings.random_mask:
        # each concept has a mask of its own: otherwise all concepts of a store would own the same neurons
        seed = fold("random", job.name, settings.seed)
        return (yield from neurons.finding_random_neurons(base, budget=settings.budget, seed=seed))
    distinct = {p.text: p for prompts in job.texts for p in prompts}
    texts = [splice(base, p, {job.name: job.slot}) for p in distinct.values()]
    policy = settings.policy if job.mode is Mode.MERGED else Policy.OVERLAP
    norms = neurons.token_norms(features(base, texts, {job.name: vectors}).x, texts)
    return (
        yield from neurons.finding_concept_neurons(
            base,
            weights,
            norms,
            budget=settings.budget,
            general=job.general,
            owned=None if policy is Policy.OVERLAP else neurons.owned_entries(base, job.owned),
            policy=policy,
            select=settings.select,
        )
    )


def _selected(base: Base, job: Job, mask: neurons.Mask, comparison: neurons.Mask) -> Selected:
    n = sum(len(m) for m in mask.values())
    return Selected(
        neurons=n,
        share=n / sum(rows * columns for rows, columns in base.shapes.values()),
        sites={s: len(m) for s, m in mask.items()},
        general={s: float(g.float().mean()) for s, g in job.general.items()},
        shared=neurons.shared_with(mask, job.owned),
        shared_random=neurons.shared_with(comparison, job.owned),
        mask={s: m.cpu().numpy() for s, m in mask.items()},
    )


def hash_of(base: Base, job: Job) -> str:
    """Hash of `parts_of`."""
    return _short(parts_of(base, job))


def parts_of(base: Base, job: Job) -> dict[str, str]:
    """What a state belongs to, in words or hashes: base model, images, texts, settings, in merged mode earlier concepts."""
    images = hashlib.sha256()
    for tensor in (*job.latents, *(mask for mask in job.masks if mask is not None)):
        images.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    texts = [[[p if isinstance(p, str) else p.scale for p in q.pieces] for q in ps] for ps in job.texts]
    shapes = [[tuple(latent.shape) for latent in job.latents], [asdict(frame) for frame in job.frames]]
    return {
        **{name: str(value) for name, value in asdict(replace(job.settings)).items()},
        "versions": f"{__version__}, torch {torch.__version__}",
        "base model": base.fingerprint,
        "device": base.device.type,
        "dtype": str(base.dtype),
        "class word": job.class_word,
        "mode": str(job.mode),
        "captions": _short(texts),
        "earlier concepts": _short([c.key for c in job.prior.concepts.values()]),
        "images": _short([images.hexdigest(), shapes, [mask is not None for mask in job.masks]]),
    }


def _short(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _resumable(resume: bytes, name: str, parts: Mapping[str, str]) -> TrainState:
    """The state of this very job.

    Raises:
        DamagedState: it cannot be used.
        NameTakenError: it is intact and of another job, which can be continued: it must not be overwritten.
    """
    state = state_from_bytes(resume)
    before = {} if state is None else state.parts
    differ = [part for part in sorted({*parts, *before}) if parts.get(part) != before.get(part)]
    if state is not None and not differ:
        return state
    what = "; ".join(_difference(part, before.get(part), parts.get(part)) for part in differ)
    raise NameTakenError(
        f"an interrupted training run of {name!r} has other settings: {what}"
        if state is not None
        else f"an interrupted training run of {name!r} was saved by another version of cnsctl",
        note=None if state is None else f"it has done {state.step} steps",
        reason="other-run",
        name=name,
        before=", ".join(_as_before(part, before.get(part)) for part in differ) if state is not None else "",
    )


def _as_before(part: str, value: object) -> str:
    """What to use to continue a run: a setting with its value, anything else by its name."""
    return f"{part} {value}" if part in TrainSettings.__dataclass_fields__ else f"the same {part}"


def _difference(name: str, before: object, now: object) -> str:
    """A setting with its two values; of images and texts only that they differ."""
    if len(str(before)) > _SHOWN or len(str(now)) > _SHOWN:
        return f"other {name}"
    return f"{name} was {before} and is {now}"


_SHOWN = 40
"""Characters of a value that a message contains; hashes are longer."""


def _final_loss(trainer: Trainer) -> float:
    last = trainer.losses[-max(1, len(trainer.losses) // 5) :]
    return sum(last) / len(last) if last else math.nan


def _delta(trainer: Trainer) -> Delta:
    """The trained delta, rounded to fp16: the proof compares the stored values."""
    base, job = trainer.base, trainer.job
    if trainer.values is None:
        raise RuntimeError("no values were trained")
    settings = {k: (str(v) if isinstance(v, StrEnum) else v) for k, v in asdict(job.settings).items()}
    values = {s: v.cpu().numpy().astype(np.float16) for s, v in trainer.values.by_site().items()}
    return Delta(
        shapes=dict(base.shapes),
        indices={s: m.cpu().numpy() for s, m in trainer.values.mask.items()},
        values=values,
        vectors={e: v.detach().cpu().numpy().astype(np.float16) for e, v in trainer.vectors.items()},
        class_word=job.class_word,
        fingerprint=base.fingerprint,
        mode=job.mode,
        recipe={**settings, "images": len(job.latents), "device": base.device.type, "dtype": str(base.dtype)[6:]},
    )
