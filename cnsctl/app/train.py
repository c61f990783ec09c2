"""`add`: read, score, select, train, verify, commit. A run that fails keeps its training state.

Owns the order of these steps; must not know terminals, file formats or formulas.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnsctl import results
from cnsctl.app import evaluate
from cnsctl.app.concepts import HOLDOUT, summary
from cnsctl.app.dataset import long_captions, make_job
from cnsctl.app.processes import together
from cnsctl.app.requests import Admitted, TrainRequest, admit, refuse_damaged
from cnsctl.app.resume import trained
from cnsctl.app.session import Session, judged, started
from cnsctl.app.stores import now, saved_but
from cnsctl.app.verify import LOST_POINTS, checked, probe_record
from cnsctl.concept import Mode
from cnsctl.errors import CnsctlError, ForgettingError, NotSavedError
from cnsctl.events import Event, Note, Phase, Warn
from cnsctl.store import defer_signals

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from cnsctl.concept import Delta
    from cnsctl.data.images import TrainingImage
    from cnsctl.engine.job import Job
    from cnsctl.engine.overlay import Overlay
    from cnsctl.engine.processes import Processes
    from cnsctl.engine.train import Trained
    from cnsctl.store import Store

STATE_FILE, LATENTS_FILE = "state.safetensors", "latents.safetensors"


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
    admitted = admit(store, request)
    processes = together(request.compute)
    if not processes.is_main:
        return (yield from _helped(store, request, admitted, processes))
    class_word, images = admitted.class_word, admitted.images
    yield Note(text=f"<{request.name}> is a new token embedding, followed by the class word {class_word!r}")
    yield from (Note(text=f"{image.name}: {image.note}") for image in images if image.note is not None)
    with ExitStack() as held:
        if store.mode is Mode.MERGED:  # each concept is trained on top of all others, so one at a time
            held.enter_context(store.work.training())
        work = held.enter_context(store.work.reserve(request.name))
        refuse_damaged(store, request.name, files=True)
        generation = store.generation()
        batch_size = request.settings.get("batch_size")
        session = yield from started(
            store, request.compute, session, hash_weights=True, work="add", batch_size=batch_size
        )
        yield Phase(name="encode the images, find general neurons")
        job = make_job(session, request, class_word, images, work / LATENTS_FILE)
        yield from long_captions(session.base, job, images)
        yield Note(text=_plan(job))
        processes.from_main(job.latents)
        found = yield from trained(session.base, job, work / STATE_FILE, processes)
        result = yield from _save(session, request, job, images=images, found=found, generation=generation)
        with defer_signals("the change is saved"):
            try:
                store.work.discard(request.name)
            except CnsctlError as err:
                store.warnings.append(err.what)
    yield from saved_but(store)
    return processes.from_main(result)


def _helped(
    store: Store, request: TrainRequest, admitted: Admitted, processes: Processes
) -> Generator[Event, None, results.TrainResult]:
    """A process that takes its share of each step, and leaves the store to the main process."""
    from cnsctl.engine.train import train as train_together

    session = yield from started(store, request.compute, None, hash_weights=True, work="add")
    job = make_job(session, request, admitted.class_word, admitted.images)
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


def _save(
    session: Session,
    request: TrainRequest,
    job: Job,
    *,
    images: Sequence[TrainingImage],
    found: Trained,
    generation: int,
) -> Generator[Event, None, results.TrainResult]:
    """In merged mode, verify the other concepts; measure the new one; commit."""
    import numpy as np

    from cnsctl.data.png import png_bytes

    store, name = session.store, request.name
    overlay = _with_new(session, job.prior, name, found.delta)
    if store.mode is Mode.MERGED:  # in the other modes no other concept can change
        yield Phase(name="check that nothing was forgotten")
        yield from _others_checked(session, overlay, request)
    yield Phase(name="generate and measure")
    pixels = judged(np.stack([image.pixels for image in images]), request.holdout)
    latents = session.base.encode_images(pixels) if request.holdout else job.latents
    scores, generated = evaluate.fresh(session, overlay, name, pixels, latents)
    record = probe_record(session, overlay, name)
    with store.transaction(f"add {name}") as tx:
        if store.mode is Mode.MERGED:
            tx.expect_generation(generation)
        saved = tx.add(
            _record_fields(session, name, found, scores, [image.caption for image in images], holdout=request.holdout),
            found.delta,
            references=[png_bytes(image.pixels) for image in images],
            probe=record,
            preview=png_bytes(np.concatenate(list(generated), axis=1)),
            replace=request.replace,
        )
        store.work.will_commit(name, saved["delta"])
    return results.TrainResult(
        store=str(store.path),
        concept=summary(store, saved),
        shared=found.selected.shared,
        shared_random=found.selected.shared_random,
        free=tx.free(),
    )


def _with_new(session: Session, prior: Overlay, name: str, delta: Delta) -> Overlay:
    """The new concept and those on top of which it was trained."""
    from cnsctl.engine.concepts import to_concept
    from cnsctl.engine.overlay import Overlay
    from cnsctl.store import delta_key

    concept = to_concept(session.base, delta, key=delta_key(delta))
    return Overlay(mode=session.store.mode, concepts={**prior.concepts, name: concept})


def _record_fields(
    session: Session,
    name: str,
    found: Trained,
    scores: Mapping[str, float | str | None],
    captions: Sequence[str | None],
    *,
    holdout: int,
) -> dict[str, Any]:
    """A concept's record, without the fields that the store computes itself."""
    return {
        "name": name,
        "class_word": found.delta.class_word,
        "tokens": len(next(iter(found.delta.vectors.values()))),
        "share": found.selected.share,
        "share_denoiser": found.selected.neurons / session.base.denoiser_weights,
        "created": now(),
        "captions": list(captions),
        "recipe": {**found.delta.recipe, **({HOLDOUT: holdout} if holdout else {})},
        "scores": dict(scores),
    }


def _others_checked(session: Session, overlay: Overlay, request: TrainRequest) -> Iterator[Event]:
    """In merged mode: prove every other concept; measure those whose K or V moved.

    Raises:
        NotSavedError: a concept lost too much; the training state is kept.
        ForgettingError: a concept has changed for another reason.
    """
    lost = []
    others = [r for r in session.store.concepts() if r["name"] in overlay.concepts and r["name"] != request.name]
    for outcome in (checked(session, overlay, record) for record in others):
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
