"""`add`: read, score, select, train, verify, commit. A run that fails keeps its training state.

Owns the order of these steps; must not know terminals, file formats or formulas.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from cnsctl import results
from cnsctl.app import evaluate, forecast, measuring, previews, run_memory
from cnsctl.app.acceptance import accepted
from cnsctl.app.arguments import FILE as ARGUMENTS_FILE
from cnsctl.app.arguments import KEY, text_of
from cnsctl.app.concepts import HOLDOUT, summary, verdict_fields
from cnsctl.app.counting import Count
from cnsctl.app.dataset import long_captions, make_job, refuse_long_class_word
from cnsctl.app.judging import compared, judge
from cnsctl.app.measuring import timed
from cnsctl.app.processes import together
from cnsctl.app.requests import (
    Admitted,
    TrainRequest,
    admit,
    expected_settings,
    refuse_damaged,
    refuse_taken_name,
)
from cnsctl.app.resume import trained
from cnsctl.app.session import Session, judged, started
from cnsctl.app.stores import base_model, now, open_base, saved_but
from cnsctl.app.understood import out_of_place, understood
from cnsctl.app.unfinished import STATE_FILE, started_text
from cnsctl.app.verify import LOST_POINTS, checked, probe_record
from cnsctl.concept import Mode
from cnsctl.errors import CnsctlError, ForgettingError, NotSavedError, UsageError
from cnsctl.events import Ahead, Event, Note, Warn
from cnsctl.store import defer_signals, write_atomic

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from cnsctl.app.judging import Known
    from cnsctl.concept import Delta
    from cnsctl.data.images import TrainingImage
    from cnsctl.engine.job import Job
    from cnsctl.engine.overlay import Overlay
    from cnsctl.engine.processes import Processes
    from cnsctl.engine.train import Trained
    from cnsctl.store import Store

NOT_MEASURED = results.Scores(error_removed=None, clip_i=None, clip_t=None)

LATENTS_FILE = "latents.safetensors"


def train(
    store: Store, request: TrainRequest, *, session: Session | None = None
) -> Generator[Event, None, results.TrainResult]:
    """Train a concept and save it.

    Everything that can be refused is refused before the model is loaded. Until the commit nothing in the store changes,
    and an interrupted run is resumed by the same call.

    Args:
        store: gets the concept.
        request: what to train.
        session: a loaded session of this store; by default one is started.
    """
    began_s = time.monotonic()
    admitted = admit(store, request)
    processes = together(request.compute)
    if not processes.is_main:
        return (yield from _helped(store, request, admitted, processes))
    class_word, images = admitted.class_word, admitted.images
    yield from understood(request.name, admitted)
    with ExitStack() as held:
        if store.mode is Mode.MERGED:  # each concept is trained on top of all others, so one at a time
            held.enter_context(store.work.training())
        work = held.enter_context(store.work.reserve(request.name))
        held.enter_context(_no_trace(store, request.name, work))
        refuse_taken_name(store, request)  # another command may have taken it before it was reserved
        refuse_damaged(store, request.name, files=True)
        if request.restart:
            store.work.discard(request.name)
        generation = store.generation()
        batch_size = request.settings.get("batch_size")
        began = run_memory.began_with(work, STATE_FILE)
        yield forecast.after_loading(foreseen(store, request, len(images)))
        session = yield from started(
            store, request.compute, session, hash_weights=True, work="add", batch_size=batch_size, began=began
        )
        if (request.measure and request.preview) or request.preview_every:
            _check_preview(session)
        refuse_long_class_word(session.base, request, class_word)
        keeps = (work / STATE_FILE).exists()  # a run with other images, which is refused below, can be continued
        job = yield from make_job(session, request, class_word, images, work / LATENTS_FILE, keep_latents=keeps)
        yield from long_captions(session.base, job, images)
        yield from out_of_place(session, class_word, images)
        known = yield from compared(session, job)
        yield Note(text=_plan(job), is_detail=True)
        processes.from_main(job.latents)
        yield from run_memory.keep(work, session.memory, began)
        watch = previews.watching(session, job, request.preview_every, request.preview_folder)
        if not keeps:  # a run that continues has been started with the same settings, or is refused
            arguments = text_of(request, open_base(store))
            write_atomic(work / ARGUMENTS_FILE, started_text(arguments, job.settings.steps))
        found, step_s = yield from timed(trained(session.base, job, work / STATE_FILE, processes, watch=watch))
        measured = _plan_of(session, request, job, len(images), step_s)
        result = yield from _save(
            session,
            request,
            job,
            images=images,
            found=found,
            measured=measured,
            known=known,
            generation=generation,
            began_s=began_s,
        )
        with defer_signals("the change is saved"):
            try:
                store.work.discard(request.name)
            except CnsctlError as err:
                store.warnings.append(err.what)
    yield from saved_but(store)
    return processes.from_main(result)


def foreseen(store: Store, request: TrainRequest, n_images: int) -> forecast.Costs:
    """The phases of a run after the base model is loaded, as far as they are known before."""
    settings, own = expected_settings(store, request), open_base(store).generate_settings()
    n, plan = n_images - request.holdout, None
    if request.measure:
        plan = measuring.plan(request.holdout or n, settings, own, step_s=None, preview=request.preview)
    others = _others(store, request)
    looks = 0.0
    if request.preview_every:
        looks = previews.rows(own) / request.preview_every
    return (*forecast.training(n, settings, looks=looks), *forecast.saving(n_images, plan, own, others=len(others)))


def _others(store: Store, request: TrainRequest) -> list[str]:
    """In merged mode, the concepts that are checked after the training: in the other modes they cannot change."""
    return [name for name in store.snapshot().names if name != request.name] if store.mode is Mode.MERGED else []


@contextmanager
def _no_trace(store: Store, name: str, work: Path) -> Iterator[None]:
    """If the block fails before the first training step, delete what this run has prepared."""
    has_state = (work / STATE_FILE).exists()
    try:
        yield
    except CnsctlError:
        if not has_state and not (work / STATE_FILE).exists():
            with suppress(CnsctlError):  # the original failure must not be hidden
                store.work.discard(name)
        raise


def _check_preview(session: Session) -> None:
    """The images after the training must not be what fails."""
    try:
        session.base.check_sampler(session.base.generate_defaults)
    except UsageError as err:
        raise UsageError(
            f"cannot generate images after the training: {err.what}", note=err.note, reason="preview"
        ) from err


def _helped(
    store: Store, request: TrainRequest, admitted: Admitted, processes: Processes
) -> Generator[Event, None, results.TrainResult]:
    """A process that takes its share of each step, and leaves the store to the main process."""
    from cnsctl.engine.train import train as train_together

    session = yield from started(store, request.compute, None, hash_weights=True, work="add")
    job = yield from make_job(session, request, admitted.class_word, admitted.images)
    job = replace(job, latents=processes.from_main(job.latents))
    resume: bytes | None = processes.from_main(None)
    yield from train_together(session.base, job, resume=resume, processes=processes)
    result: results.TrainResult = processes.from_main(None)  # type: ignore[assignment]
    return result


def _plan(job: Job) -> str:
    """The settings of the run in words."""
    settings, n = job.settings, len(job.latents)
    batches = "" if settings.accumulate == 1 else f" × {settings.accumulate}"
    return (
        f"training on {n} image{'' if n == 1 else 's'}: {settings.steps} steps, batch size {settings.batch_size}{batches}, "
        f"learning rate {settings.learning_rate:g}, token learning rate {settings.token_learning_rate:g}"
    )


def _plan_of(
    session: Session, request: TrainRequest, job: Job, n_images: int, step_s: float | None
) -> measuring.Plan | None:
    """What to measure of the new concept; None for nothing."""
    if not request.measure:
        return None
    own, preview = session.base.generate_defaults, request.preview
    return measuring.plan(request.holdout or n_images, job.settings, own, step_s=step_s, preview=preview)


def _save(
    session: Session,
    request: TrainRequest,
    job: Job,
    *,
    images: Sequence[TrainingImage],
    found: Trained,
    measured: measuring.Plan | None,
    known: Known | None,
    generation: int,
    began_s: float,
) -> Generator[Event, None, results.TrainResult]:
    """In merged mode, verify the other concepts; measure the new one; commit."""
    import numpy as np

    from cnsctl.data.png import png_bytes

    store, name = session.store, request.name
    overlay, own = _with_new(session, job.prior, name, found.delta), session.base.generate_defaults
    changed: tuple[str, ...] = ()
    yield Ahead(phases=forecast.saving(len(images), measured, own, others=len(_others(store, request))))
    if store.mode is Mode.MERGED:  # in the other modes no other concept can change
        changed = yield from _others_checked(session, overlay, request)
    scores: dict[str, Any] = asdict(NOT_MEASURED)
    generated: Sequence[Any] = []
    if measured is not None:
        scores, generated = yield from _measured(session, overlay, request, job, images, plan=measured, known=known)
    count = Count(forecast.SAVE, len(images) + 1)
    yield count.begin()
    record = probe_record(session, overlay, name)
    yield count.step()
    references = []
    for image in images:
        references.append(png_bytes(image.pixels))
        yield count.step()
    with store.transaction(f"add {name}", began_s=began_s) as tx:
        if store.mode is Mode.MERGED:
            tx.expect_generation(generation)
        saved = tx.add(
            {
                **_record_fields(session, request, found, [image.caption for image in images]),
                "scores": scores,
            },
            found.delta,
            references=references,
            probe=record,
            preview=png_bytes(np.concatenate(generated, axis=1)) if generated else None,
            replace=request.replace,
        )
        store.work.will_commit(name, saved["delta"])
    return results.TrainResult(
        store=str(store.path),
        base=base_model(store),
        concept=summary(store, saved),
        seconds=round(time.monotonic() - began_s, 1),
        others=len(tx.names()) - 1,
        changed=changed,
        shared=found.selected.shared,
        shared_random=found.selected.shared_random,
        free=tx.free(),
    )


def _measured(
    session: Session,
    overlay: Overlay,
    request: TrainRequest,
    job: Job,
    images: Sequence[TrainingImage],
    *,
    plan: measuring.Plan,
    known: Known | None,
) -> Generator[Event, None, tuple[dict[str, Any], Sequence[Any]]]:
    """The scores and the verdict as a record has them, and the images that were generated for them.

    Raises:
        NotSavedError: the concept is worse than its class word.
    """
    yield from _notes(plan, request.holdout or len(images), preview=request.preview)
    numbers = judged(len(images), request.holdout, plan.rows)
    pixels = [images[i].pixels for i in numbers]
    latents = None if request.holdout else [job.latents[i] for i in numbers]
    scores, generated = yield from evaluate.fresh(session, overlay, job.name, plan=plan, pixels=pixels, latents=latents)
    with_class = yield from accepted(
        session, overlay, job, scores, plan=plan, pixels=pixels, allow_worse=request.allow_worse
    )
    scores = scores if known is None else known.beside(scores)
    found = judge(session, scores, job.class_word, with_class)
    return {**asdict(scores), **verdict_fields(found)}, generated


def _with_new(session: Session, prior: Overlay, name: str, delta: Delta) -> Overlay:
    """The new concept and those on top of which it was trained."""
    from cnsctl.engine.concepts import to_concept
    from cnsctl.engine.overlay import Overlay
    from cnsctl.store import delta_key

    concept = to_concept(session.base, delta, key=delta_key(delta))
    return Overlay(mode=session.store.mode, concepts={**prior.concepts, name: concept})


def _record_fields(
    session: Session,
    request: TrainRequest,
    found: Trained,
    captions: Sequence[str | None],
) -> dict[str, Any]:
    """A concept's record, without its scores and the fields that the store computes itself."""
    held_out = {HOLDOUT: request.holdout} if request.holdout else {}
    return {
        "name": request.name,
        "class_word": found.delta.class_word,
        "tokens": len(next(iter(found.delta.vectors.values()))),
        "share": found.selected.share,
        "share_denoiser": found.selected.neurons / session.base.denoiser_weights,
        "created": now(),
        "captions": list(captions),
        "recipe": {**found.delta.recipe, **held_out, KEY: text_of(request, open_base(session.store))},
    }


def _notes(measured: measuring.Plan, n_images: int, *, preview: bool) -> Iterator[Note]:
    """What is measured less thoroughly than it could be."""
    if len(measured.rows) < n_images:
        yield Note(text=f"measuring on {len(measured.rows)} of {n_images} images", is_detail=True)
    if preview and not measured.is_whole:
        n, steps = measured.level.images, measured.level.steps
        images = f"{n} image{'' if n == 1 else 's'} with {steps} inference steps" if n else "no images"
        yield Note(text=f"generating {images}: measuring takes at most 10 % of the training time", is_detail=True)


def _others_checked(
    session: Session, overlay: Overlay, request: TrainRequest
) -> Generator[Event, None, tuple[str, ...]]:
    """In merged mode: prove every other concept; measure those whose K or V moved, and return their names.

    Raises:
        NotSavedError: a concept lost too much; the training state is kept.
        ForgettingError: a concept has changed for another reason.
    """
    lost, changed = [], []
    others = [r for r in session.store.concepts() if r["name"] in overlay.concepts and r["name"] != request.name]
    count = Count(forecast.OTHERS, len(others))
    yield count.begin()
    for record in others:
        outcome = yield from checked(session, overlay, record)
        yield count.step()
        if not outcome.proof.unchanged:
            changed.append(outcome.name)
        if outcome.lost is not None and outcome.lost > LOST_POINTS:
            lost.append(f"<{outcome.name}> lost {outcome.lost:.1f} points of error removed")
        elif not outcome.proof.unchanged and outcome.lost is None:
            raise ForgettingError(
                f"<{outcome.name}> has changed: {'; '.join(outcome.proof.reasons)}", reason="changed-concept"
            )
    if lost and not request.allow_forgetting:
        raise NotSavedError(
            "; ".join(lost), note=f"limit: {LOST_POINTS:g} points; the training state is kept", reason="lost"
        )
    yield from (Warn(text=text) for text in lost)
    return tuple(changed)
