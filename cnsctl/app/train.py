"""`add`: read, score, select, train, verify, commit; or keep nothing but the work.

Owns the order of these steps; must not know terminals, file formats or formulas.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cnsctl.app import measure
from cnsctl.app.dataset import long_captions, make_job
from cnsctl.app.requests import AddRequest, admit, refuse_damaged
from cnsctl.app.resume import trained
from cnsctl.app.session import Session, judged, start
from cnsctl.app.shelf import now, saved_but, summary
from cnsctl.errors import CnsctlError, LearnedNotKept
from cnsctl.results import Answer, Event, Note, Phase, Warn
from cnsctl.specs import FORMAT, Mode
from cnsctl.store import defer_signals

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from cnsctl.data.images import Picture
    from cnsctl.engine.trainer import Job
    from cnsctl.results import Learned
    from cnsctl.store import Store

LOST_POINTS = 5.0
"""In merged: an earlier concept that loses more points of error removed than this refuses the commit."""

STATE_FILE, LATENTS_FILE = "state.safetensors", "latents.safetensors"


def add(store: Store, request: AddRequest) -> Generator[Event, None, None]:
    """Learn a concept and keep it; the last event is the answer.

    Everything that can be refused is refused before the model is loaded. Until the commit nothing in the store changes,
    and an interrupted run is resumed by the same call.
    """
    admitted = admit(store, request)
    class_word, pictures = admitted.class_word, admitted.pictures
    yield Note(text=f"<{request.name}> stands for a new token and the class word {class_word!r}")
    yield from (Note(text=f"{p.name}: {p.note}") for p in pictures if p.note is not None)
    with ExitStack() as held:
        if store.mode is Mode.MERGED:  # each concept is learned on top of the others: one at a time
            held.enter_context(store.training())
        work = held.enter_context(store.reserve(request.name))
        refuse_damaged(store, request.name, files=True)
        generation = store.generation()
        yield Phase(name="load the base")
        session = start(store, request.compute, hash_weights=True)
        yield Phase(name="encode the images, find general neurons")
        job = make_job(session, request, class_word, pictures, work / LATENTS_FILE)
        yield from long_captions(session.base, job, pictures)
        yield Note(text=_plan(job))
        learned = yield from trained(session.base, job, work / STATE_FILE)
        answer = yield from _keep(session, request, job, pictures=pictures, learned=learned, generation=generation)
        with defer_signals("the change is saved"):
            try:
                store.discard_work(request.name)
            except CnsctlError as err:
                store.warnings.append(err.what)
    yield from saved_but(store)
    yield Answer(data=answer)


def _plan(job: Job) -> str:
    """What is about to be done, in the base's defaults and the user's settings."""
    spec, n = job.spec, len(job.latents)
    return (
        f"learning from {n} picture{'' if n == 1 else 's'}: {spec.steps} steps of {spec.batch}, "
        f"neurons at {spec.rate_values:g}, token at {spec.rate_vectors:g}"
    )


def _keep(
    session: Session,
    request: AddRequest,
    job: Job,
    *,
    pictures: Sequence[Picture],
    learned: Learned,
    generation: int,
) -> Generator[Event, None, dict[str, Any]]:
    """In merged verify the others; measure the new one, commit; returns the answer."""
    import numpy as np

    from cnsctl.data.png import png_bytes

    store, name = session.store, request.name
    overlay = measure.with_new(session, job.prior, name, learned.delta)
    if store.mode is Mode.MERGED:  # elsewhere no other concept can change
        yield Phase(name="check that nothing was forgotten")
        yield from _others_checked(session, overlay, request)
    yield Phase(name="draw and measure it")
    pixels = judged(np.stack([p.pixels for p in pictures]), request.holdout)
    latents = session.base.encode_pictures(pixels) if request.holdout else job.latents
    scores, drawn = measure.fresh(session, overlay, name, pixels, latents)
    record = measure.probe_record(session, overlay, name)
    with store.transaction(f"add {name}") as tx:
        if store.mode is Mode.MERGED:
            tx.expect_generation(generation)
        kept = tx.add(
            measure.concept_fields(
                session,
                name,
                learned,
                scores,
                [p.caption for p in pictures],
                holdout=request.holdout,
                created=now(),
            ),
            learned.delta,
            references=[png_bytes(p.pixels) for p in pictures],
            probe=record,
            preview=png_bytes(np.concatenate(list(drawn), axis=1)),
            replace=request.replace,
        )
        store.will_commit(name, kept["delta"])
    return {
        "format": FORMAT,
        "store": str(store.path),
        "concept": summary(store, kept),
        "shared": learned.selected.shared,
        "shared_random": learned.selected.shared_random,
        "free": tx.free(),
    }


def _others_checked(session: Session, overlay: Any, request: AddRequest) -> Iterator[Event]:
    """In merged: proof for every other concept; those whose K or V moved are measured.

    Raises:
        LearnedNotKept: an earlier concept lost too much; the work is kept.
    """
    lost = []
    others = [r for r in session.store.concepts() if r["name"] in overlay.concepts and r["name"] != request.name]
    for outcome in (measure.checked(session, overlay, record) for record in others):
        if outcome.lost is not None and outcome.lost > LOST_POINTS:
            lost.append(f"<{outcome.name}> lost {outcome.lost:.1f} points of error removed")
        elif not outcome.proof.unchanged and outcome.lost is None:
            raise CnsctlError(
                f"<{outcome.name}> is not what it was: {'; '.join(outcome.proof.reasons)}", hint="run cnsctl verify"
            )
    if lost and not request.allow_forgetting:
        raise LearnedNotKept(
            f"{'; '.join(lost)} (limit {LOST_POINTS:g})",
            hint="the work is kept: --allow-forgetting commits it, --policy prefer-free or fewer --steps lose less",
        )
    yield from (Warn(text=text) for text in lost)
