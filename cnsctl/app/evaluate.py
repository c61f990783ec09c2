"""Measurements of a concept: error removed, CLIP scores, drift, each beside the values to compare it with.

Owns the prompts and seeds, which are fixed so that scores can be compared over time; must not know terminals.
"""

from __future__ import annotations

from dataclasses import asdict
from statistics import stdev
from typing import TYPE_CHECKING

from cnsctl import results
from cnsctl.app.concepts import holdout_of, require, scores_of
from cnsctl.app.processes import together
from cnsctl.app.session import Session, judged, started
from cnsctl.app.stores import base_model
from cnsctl.concept import Mode, Prompt
from cnsctl.data.prompt_grammar import parse, render_class
from cnsctl.data.prompt_templates import base_probe_texts, probe_prompts
from cnsctl.errors import StoreDamagedError
from cnsctl.events import Event, Phase, Step
from cnsctl.metrics.error_removed import error_removed
from cnsctl.metrics.forgetting import drift, forgetting
from cnsctl.metrics.similarity import clip_i, clip_t, likeness_within

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from typing import Any

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cnsctl.engine.overlay import Overlay
    from cnsctl.store import ConceptRecord, Store

    Pixels = NDArray[np.uint8]
    Features = NDArray[np.floating]

SEEDS = (0, 1)
"""Of the probe images, for each probe prompt that names a place."""

NOISES = (0, 1, 2)
"""Noise seeds of error removed; the first gives the figure that is saved."""


def evaluate(
    store: Store,
    names: Sequence[str],
    compute: Mapping[str, Any] | None = None,
    *,
    images: bool = True,
    session: Session | None = None,
) -> Generator[Event, None, results.EvaluateResult]:
    """Measure concepts and the drift of the base model, each score beside its value after training and the class word's.

    Error removed always; CLIP-I, CLIP-T and drift need images. A concept that cannot be read is named in the
    result instead.

    Raises:
        StoreDamagedError: in merged mode, where all concepts act, one of them cannot be read.
    """
    require(store, names)
    processes = together(compute or {})
    session = yield from started(store, compute or {}, session)
    # loading takes seconds, in which another process may have changed the store
    found = processes.from_main([r["name"] for r in require(store, names)])
    own = [found[i] for i in processes.share(len(found))]
    records = require(store, own) if own else []
    images_of_base = images and processes.is_main
    whole = session.overlay(())  # in merged mode all concepts, else none
    yield Phase(name="measure", total=len(records) + images_of_base)
    rows, damaged = [], []
    for i, record in enumerate(records):
        try:
            overlay = whole if store.mode is Mode.MERGED else session.overlay([record["name"]])
            rows.append(_evaluated(session, overlay, record, images=images))
        except StoreDamagedError:
            damaged.append(record["name"])
        yield Step(phase="measure", step=i + 1, total=len(records) + images_of_base)
    drifted = _drift(session, whole) if images_of_base else None
    shares = processes.gathered((rows, damaged))
    return results.EvaluateResult(
        store=str(store.path),
        base=base_model(store),
        mode=str(store.mode),
        device=session.device.type,
        dtype=session.dtype,
        concepts=tuple(row for share, _ in shares for row in share),
        damaged=tuple(name for _, share in shares for name in share),
        drift=drifted,
    )


def _evaluated(session: Session, overlay: Overlay, record: ConceptRecord, *, images: bool) -> results.Evaluated:
    from cnsctl.engine.overlay import EMPTY

    name, trained = record["name"], scores_of(record)
    references, n_held_out = session.references(record), holdout_of(record)
    pixels = judged(references, n_held_out)
    removed, spread = removed_error_with_spread(session, overlay, name, session.base.encode_images(pixels))
    now, plain, real = results.Scores(error_removed=removed, clip_i=None, clip_t=None), None, None
    if images:
        prompts = probe_prompts(name)
        features = clip_features(session, references)
        own = None if features is None else judged(features, n_held_out)
        now = clip_scores(session, overlay, name, probe_images(session, overlay, prompts), own, removed=removed)
        class_images = probe_images(session, EMPTY, [class_prompt(overlay, p) for p in prompts])
        plain = clip_scores(session, overlay, name, class_images, own)
        real = clip_i_real(features, n_held_out)
    return results.Evaluated(
        name=name,
        held_out=n_held_out,
        error_removed=removed,
        error_removed_spread=spread,
        clip_i=now.clip_i,
        clip_i_class=None if plain is None else plain.clip_i,
        clip_i_real=real,
        clip_t=now.clip_t,
        clip_t_class=None if plain is None else plain.clip_t,
        backbone=now.backbone,
        trained=trained,
        forgetting=results.Scores(
            error_removed=forgetting(trained.error_removed, removed),
            clip_i=forgetting(trained.clip_i, now.clip_i),
            clip_t=forgetting(trained.clip_t, now.clip_t),
        ),
    )


def _drift(session: Session, overlay: Overlay) -> results.Drift:
    """How the store changed the base model's own images: prompts without a concept, against no overlay."""
    from cnsctl.engine.overlay import EMPTY

    found = drift(base_images(session, overlay), base_images(session, EMPTY))
    return results.Drift(
        images=len(base_probe_texts()), changed=found.changed, mean_abs=found.mean_abs, max_abs=found.max_abs
    )


def cannot_be_read(store: str, names: Sequence[str]) -> StoreDamagedError:
    """The error of a command that has done its work for the other concepts."""
    return StoreDamagedError(
        f"cannot read: {', '.join(names)}", note=f"store: {store}", reason="damaged-concepts", names=names
    )


def removed_error(session: Session, overlay: Overlay, name: str, latents: torch.Tensor, *, noise: int = 0) -> float:
    """Error removed, percent: the denoising error with the concept against that of the base model with the class word.

    Without any delta: in merged mode all deltas act on the class word too, and the reference must not change with the
    store.
    """
    from cnsctl.engine.denoising_error import denoising_error
    from cnsctl.engine.overlay import EMPTY

    prompt = probe_prompts(name)[0]
    with_concept = denoising_error(session.base, overlay, prompt, latents, noise_seed=noise)
    without = denoising_error(session.base, EMPTY, class_prompt(overlay, prompt), latents, noise_seed=noise)
    return error_removed(with_concept, without)


def removed_error_with_spread(
    session: Session, overlay: Overlay, name: str, latents: torch.Tensor
) -> tuple[float, float]:
    """`removed_error`, and its standard deviation over three noise seeds."""
    found = [removed_error(session, overlay, name, latents, noise=noise) for noise in NOISES]
    return found[0], stdev(found)


def class_prompt(overlay: Overlay, prompt: Prompt) -> Prompt:
    """The same prompt with the class word instead of the concept."""
    return parse(render_class(prompt, {n: c.class_word for n, c in overlay.concepts.items()}), ())


def fresh(
    session: Session, overlay: Overlay, name: str, pixels: Pixels, latents: torch.Tensor
) -> tuple[dict[str, float | str | None], list[Pixels]]:
    """Scores of a concept, as in its record, and its probe images."""
    generated = probe_images(session, overlay, probe_prompts(name))
    removed = removed_error(session, overlay, name, latents)
    scores = clip_scores(session, overlay, name, generated, clip_features(session, pixels), removed=removed)
    return asdict(scores), generated


def probe_images(session: Session, overlay: Overlay, prompts: Sequence[Prompt]) -> list[Pixels]:
    """The probe prompts that name a place, each with the fixed seeds, in the base model's own settings."""
    from cnsctl.engine.generate import Request, generate_images

    requests = [Request(prompt=p, seed=s) for p in prompts[1:] for s in SEEDS]
    return [image for _, image in generate_images(session.base, overlay, requests, session.base.generate_defaults)]


def clip_features(session: Session, pixels: Pixels) -> Features | None:
    """CLIP features of a concept's own images, (n, d); None if the base model has no CLIP."""
    towers = session.clip()
    return None if towers is None else towers.images(list(pixels))


def clip_scores(
    session: Session,
    overlay: Overlay,
    name: str,
    generated: Sequence[Pixels],
    own: Features | None,
    *,
    removed: float | None = None,
) -> results.Scores:
    """CLIP-I against the concept's own images (mean over pairs) and CLIP-T against the prompt with the class word.

    Both are None if the base model has no CLIP. `removed` is added to the result.
    """
    towers = session.clip()
    if towers is None or own is None:
        return results.Scores(error_removed=removed, clip_i=None, clip_t=None)
    texts = [class_prompt(overlay, p).text for p in probe_prompts(name)[1:] for _ in SEEDS]
    features = towers.images(generated)
    return results.Scores(
        error_removed=removed,
        clip_i=clip_i(features, own),
        clip_t=clip_t(features, towers.texts(texts)),
        backbone=towers.backbone,
    )


def clip_i_real(features: Features | None, n_held_out: int) -> float | None:
    """CLIP-I of real images, an upper limit: a concept's held-out images against its training images.

    Without held-out images: its images against each other, each pair once.
    """
    if features is None or len(features) < 2:
        return None
    if n_held_out:
        return clip_i(features[-n_held_out:], features[:-n_held_out])
    return likeness_within(features)


def base_images(session: Session, overlay: Overlay) -> list[Pixels]:
    """Images of the ten prompts without a concept, with one seed, for drift."""
    from cnsctl.engine.generate import Request, generate_images

    requests = [Request(prompt=parse(text, ()), seed=0) for text in base_probe_texts()]
    return [image for _, image in generate_images(session.base, overlay, requests, session.base.generate_defaults)]
