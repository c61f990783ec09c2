"""Measurements of concepts: error removed, CLIP scores, drift, each beside the values to compare it with.

Owns what is compared with what; must not know terminals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cnsctl import results
from cnsctl.app.concepts import holdout_of, measurable, require, scores_of, without_images
from cnsctl.app.counting import Count
from cnsctl.app.measuring import MANY, plan_again, sample
from cnsctl.app.probes import (
    NOISES,
    class_prompt,
    clip_i_real,
    clip_scores,
    encoded,
    features,
    generating,
    probes,
    removed_error,
    removed_error_with_spread,
)
from cnsctl.app.processes import together
from cnsctl.app.session import Session, judged, started
from cnsctl.app.stores import base_model
from cnsctl.concept import Mode
from cnsctl.data.prompt_grammar import parse
from cnsctl.data.prompt_templates import base_probe_texts
from cnsctl.errors import DiskError, FormatTooNewError, StoreDamagedError
from cnsctl.events import Compared, Denoised, Event, Warn
from cnsctl.metrics.forgetting import drift, forgetting
from cnsctl.metrics.similarity import clip_i

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from typing import Any

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cnsctl.app.measuring import Plan
    from cnsctl.bases.metric_models import ImageFeatures
    from cnsctl.engine.overlay import Overlay
    from cnsctl.store import ConceptRecord, Store

    Pixels = NDArray[np.uint8]
    Features = NDArray[np.floating]

UNREADABLE = (StoreDamagedError, DiskError, FormatTooNewError)
"""Why a concept cannot be read; the other concepts can."""

MEASURE, GENERATE, COMPARE = "measure error removed", "generate", "compare by CLIP"
OF_BASE, OF_CLASS = "generate without a concept", "generate with the class word"


def evaluate(
    store: Store,
    names: Sequence[str],
    compute: Mapping[str, Any] | None = None,
    *,
    images: bool = True,
    full: bool = False,
    session: Session | None = None,
) -> Generator[Event, None, results.EvaluateResult]:
    """Measure concepts and the drift of the base model, each score beside its value after training and the class word's.

    Error removed always; CLIP-I, CLIP-T and drift need images. Each concept is measured as it was after its training,
    or with `full` as thoroughly as possible. A concept that cannot be read, or that has no images, is named in the result
    instead.

    Raises:
        StoreDamagedError: in merged mode, where all concepts act, one of them cannot be read.
        UsageError: none of the concepts has images.
    """
    yield from without_images(require(store, names))
    processes = together(compute or {})
    session = yield from started(store, compute or {}, session)
    if images:
        session.base.check_sampler(session.base.generate_defaults)
    # loading takes seconds, in which another process may have changed the store
    every = processes.from_main([(r["name"], bool(r["references"])) for r in require(store, names)])
    names = [name for name, has_images in every if has_images]
    own = [names[i] for i in processes.share(len(names))]
    records = require(store, own) if own else []
    images_of_base = images and processes.is_main
    whole = session.overlay(())  # in merged mode all concepts, else none
    plans = {r["name"]: plan_again(scores_of(r), measurable(r), full=full) for r in records}
    removed = yield from _removed(session, whole, records, plans)
    readable = [r for r in records if r["name"] in removed]
    by_clip = (yield from _by_clip(session, whole, readable, plans)) if images else {}
    found = [r for r in readable if r["name"] in by_clip or not images]
    rows = [_evaluated(session, r, plans[r["name"]], removed[r["name"]], by_clip.get(r["name"])) for r in found]
    drifted = (yield from _drift(session, whole)) if images_of_base else None
    shares = processes.gathered((rows, [r["name"] for r in records if r not in found]))
    return results.EvaluateResult(
        store=str(store.path),
        base=base_model(store),
        mode=str(store.mode),
        device=session.device.type,
        dtype=session.dtype,
        concepts=tuple(row for share, _ in shares for row in share),
        damaged=tuple(name for _, share in shares for name in share),
        without_images=tuple(name for name, has_images in every if not has_images),
        drift=drifted,
    )


def _acting(session: Session, whole: Overlay, name: str) -> Overlay:
    return whole if session.store.mode is Mode.MERGED else session.overlay([name])


def _removed(
    session: Session, whole: Overlay, records: Sequence[ConceptRecord], plans: Mapping[str, Plan]
) -> Generator[Event, None, dict[str, tuple[float, float]]]:
    """Error removed and its spread, by name, of the concepts that can be read."""
    passes = {name: (1 + 2 * len(NOISES)) * len(plan.rows) for name, plan in plans.items()}
    count = Count(MEASURE, sum(passes.values()))
    yield count.begin()
    found = {}
    for record in records:
        name, until = record["name"], count.done + passes[record["name"]]
        try:
            overlay = _acting(session, whole, name)
            latents = yield from count.each(encoded(session, record, plans[name]))
            found[name] = yield from count.each(removed_error_with_spread(session, overlay, name, latents))
        except UNREADABLE as err:
            yield Warn(text=f"<{name}> is not measured: {err.what}")
            yield count.step(until - count.done)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByClip:
    """Scores by CLIP of one concept."""

    now: results.Scores
    plain: results.Scores
    """Of the class word alone."""
    real: float | None
    """CLIP-I of real images."""
    judge: results.Judged | None
    """By the store's second backbone, if it has one."""


def _by_clip(
    session: Session, whole: Overlay, records: Sequence[ConceptRecord], plans: Mapping[str, Plan]
) -> Generator[Event, None, dict[str, _ByClip]]:
    """Generate with each concept and with its class word; scores by name, of the concepts that can be read."""
    count = Count(GENERATE, sum(2 * plans[r["name"]].level.images for r in records))
    yield count.begin()
    found = {}
    for record in records:
        name, plan = record["name"], plans[record["name"]]
        until = count.done + 2 * plan.level.images
        try:
            overlay = _acting(session, whole, name)
            found[name], images = yield from count.each(_compared(session, overlay, record, plan))
            yield images
        except UNREADABLE as err:
            yield Warn(text=f"<{name}> is not measured: {err.what}")
            yield count.step(until - count.done)
    return found


def _compared(
    session: Session, overlay: Overlay, record: ConceptRecord, plan: Plan
) -> Generator[Denoised | None, None, tuple[_ByClip, Compared]]:
    from cnsctl.engine.overlay import EMPTY

    towers, settings = session.clip(), plan.level.settings(session.base.generate_defaults)
    own, real = (None, None) if towers is None else _own_features(session, towers, record, plan)
    prompts, scores, images = probes(record["name"], plan.level), [], []
    plain = [(class_prompt(overlay, prompt), seed) for prompt, seed in prompts]
    for acting, asked in ((overlay, prompts), (EMPTY, plain)):
        images.append((yield from generating(session, acting, asked, settings)))
        scores.append(clip_scores(towers, [p.text for p, _ in plain], images[-1], own))
    judge = _judged(session, record, plan, images[0], images[1])
    compared = Compared(
        name=record["name"],
        prompts=tuple(prompt.text for prompt, _ in prompts),
        seeds=tuple(seed for _, seed in prompts),
        images=tuple(images[0]),
        plain=tuple(images[1]),
    )
    return _ByClip(now=scores[0], plain=scores[1], real=real, judge=judge), compared


def _own_features(
    session: Session, towers: ImageFeatures, record: ConceptRecord, plan: Plan
) -> tuple[Features, float | None]:
    """CLIP features of the images that the concept is measured on, and CLIP-I of real images."""
    n, held_out = len(record["references"]), holdout_of(record)
    own = towers.images(session.references(record, judged(n, held_out, plan.rows)))
    if not held_out:
        return own, clip_i_real(own)
    return own, clip_i_real(own, towers.images(session.references(record, sample(n - held_out, MANY))))


def _evaluated(
    session: Session,  # noqa: ARG001  for metrics of the concept's images: `session.references(record)`
    record: ConceptRecord,
    plan: Plan,
    removed: tuple[float, float],
    by_clip: _ByClip | None,
) -> results.Evaluated:
    """A row of the result."""
    trained = scores_of(record)
    now = results.Scores(error_removed=removed[0], clip_i=None, clip_t=None) if by_clip is None else by_clip.now
    same_images = trained.measured_on == len(plan.rows)
    same_level = trained.level == plan.level.name and trained.backbone == now.backbone
    return results.Evaluated(
        name=record["name"],
        held_out=holdout_of(record),
        error_removed=removed[0],
        error_removed_spread=removed[1],
        measured_on=len(plan.rows),
        level=None if by_clip is None else plan.level.name,
        clip_i=now.clip_i,
        clip_i_class=None if by_clip is None else by_clip.plain.clip_i,
        clip_i_real=None if by_clip is None else by_clip.real,
        clip_t=now.clip_t,
        clip_t_class=None if by_clip is None else by_clip.plain.clip_t,
        backbone=now.backbone,
        trained=trained,
        forgetting=results.Scores(
            error_removed=forgetting(trained.error_removed, removed[0]) if same_images else None,
            clip_i=forgetting(trained.clip_i, now.clip_i) if same_images and same_level else None,
            clip_t=forgetting(trained.clip_t, now.clip_t) if same_level else None,
        ),
        judge=None if by_clip is None else by_clip.judge,
    )


def _judged(
    session: Session,
    record: ConceptRecord,
    plan: Plan,
    generated: Sequence[Pixels],
    with_class: Sequence[Pixels],
) -> results.Judged | None:
    """Similarity of images by the store's second backbone, if it has one."""
    if (backbone := session.judge()) is None:
        return None
    own, real = _own_features(session, backbone, record, plan)
    return results.Judged(
        backbone=backbone.backbone,
        images=clip_i(backbone.images(generated), own),
        images_class=clip_i(backbone.images(with_class), own),
        images_real=real,
    )


def _drift(session: Session, overlay: Overlay) -> Generator[Event, None, results.Drift]:
    """How the store changed the base model's own images: prompts without a concept, against no overlay."""
    from cnsctl.engine.overlay import EMPTY

    asked = [(parse(text, ()), 0) for text in base_probe_texts()]
    count = Count(OF_BASE, 2 * len(asked))
    yield count.begin()
    settings = session.base.generate_defaults
    now = yield from count.each(generating(session, overlay, asked, settings))
    before = yield from count.each(generating(session, EMPTY, asked, settings))
    found = drift(now, before)
    return results.Drift(images=len(asked), changed=found.changed, mean_abs=found.mean_abs, max_abs=found.max_abs)


def cannot_be_read(store: str, names: Sequence[str]) -> StoreDamagedError:
    """The error of a command that has done its work for the other concepts."""
    return StoreDamagedError(
        f"cannot read: {', '.join(names)}", note=f"store: {store}", reason="damaged-concepts", names=names
    )


def fresh(
    session: Session,
    overlay: Overlay,
    name: str,
    *,
    plan: Plan,
    pixels: Sequence[Pixels],
    latents: Sequence[torch.Tensor] | None,
) -> Generator[Event, None, tuple[results.Scores, list[Pixels]]]:
    """Scores of a new concept, as in its record, and the images that were generated for them.

    Args:
        session: with the base model.
        overlay: with the concept.
        name: of the concept.
        plan: what to measure.
        pixels: the images of the plan.
        latents: the same, encoded, if they are.
    """
    count = Count(MEASURE, (3 if latents is None else 2) * len(pixels))
    yield count.begin()
    if latents is None:
        latents = yield from count.each(session.encoding(pixels))
    removed = yield from count.each(removed_error(session, overlay, name, latents))
    generated: list[Pixels] = []
    scores = results.Scores(error_removed=None, clip_i=None, clip_t=None)
    if plan.level.images:
        asked = probes(name, plan.level)
        count = Count(GENERATE, len(asked))
        yield count.begin()
        settings = plan.level.settings(session.base.generate_defaults)
        generated = yield from count.each(generating(session, overlay, asked, settings))
        if plan.level.scored and (towers := session.clip()) is not None:
            count = Count(COMPARE, len(pixels))
            yield count.begin()
            own = yield from count.each(features(towers, pixels))
            scores = clip_scores(towers, [class_prompt(overlay, p).text for p, _ in asked], generated, own)
    return replace(scores, error_removed=removed, measured_on=len(pixels), level=plan.level.name), generated


def of_class_word(session: Session, overlay: Overlay, name: str, plan: Plan) -> Generator[Event, None, list[Pixels]]:
    """Images of the same prompts and seeds with the class word instead of the concept, on the base model alone."""
    from cnsctl.engine.overlay import EMPTY

    asked = [(class_prompt(overlay, prompt), seed) for prompt, seed in probes(name, plan.level)]
    count = Count(OF_CLASS, len(asked))
    yield count.begin()
    settings = plan.level.settings(session.base.generate_defaults)
    return (yield from count.each(generating(session, EMPTY, asked, settings)))
