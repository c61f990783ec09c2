"""Whether a trained concept is better than its class word alone: a result that is worse is not saved unless asked for.

Owns this comparison and its limits; must not know terminals or how a score is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.app import evaluate
from cnsctl.errors import NotSavedError
from cnsctl.events import Event, Warn
from cnsctl.metrics.similarity import clip_i, likeness_within
from cnsctl.metrics.verdict import CLEAR_CLIP, LOW

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from cnsctl import results
    from cnsctl.app.evaluate import Pixels
    from cnsctl.app.measuring import Plan
    from cnsctl.app.session import Session
    from cnsctl.engine.job import Job
    from cnsctl.engine.overlay import Overlay

SHOWN_ERROR = 0.05
"""Percent. Error removed above minus this is shown as zero."""


def accepted(
    session: Session,
    overlay: Overlay,
    job: Job,
    scores: results.Scores,
    *,
    plan: Plan,
    pixels: Sequence[Pixels],
    allow_worse: bool,
) -> Generator[Event, None, float | None]:
    """Compare a new concept with its class word on the base model alone.

    Returns:
        CLIP-I of the class word, if it was measured.

    Args:
        session: with the base model.
        overlay: with the concept.
        job: of its training.
        scores: of the concept.
        plan: how it was measured.
        pixels: the images of the plan.
        allow_worse: only warn.

    Raises:
        NotSavedError: the concept is worse; the training state is kept.
    """
    worse, plain = yield from _worse(session, overlay, job.name, scores, plan=plan, pixels=pixels)
    if not worse:
        return plain
    what = f"<{job.name}> is worse than its class word on the base model: {'; '.join(worse)}"
    if allow_worse:
        yield Warn(text=what)
        return plain
    own = session.base.train_defaults
    given = {name: getattr(job.settings, name) for name in ("learning_rate", "token_learning_rate")}
    higher = {name: value for name, value in given.items() if name in own and value > own[name]}
    rates = ", ".join(f"{name.replace('_', ' ')} {value:g} (default {own[name]:g})" for name, value in higher.items())
    cause = f"the likely cause is the {rates}" if rates else "the likely cause is too few steps, or images that differ"
    raise NotSavedError(
        what,
        note=f"{cause}; the training state is kept",
        reason="worse",
        name=job.name,
        higher=tuple(higher),
    )


def _worse(
    session: Session,
    overlay: Overlay,
    name: str,
    scores: results.Scores,
    *,
    plan: Plan,
    pixels: Sequence[Pixels],
) -> Generator[Event, None, tuple[list[str], float | None]]:
    """In which scores the concept is worse, in words; and CLIP-I of the class word, if it was measured."""
    found = []
    if scores.error_removed is not None and not scores.error_removed > -SHOWN_ERROR:
        found.append(f"error removed is {scores.error_removed:.1f} %")
    towers = session.clip() if scores.clip_i is not None else None
    if scores.clip_i is None or towers is None:
        return found, None
    own = towers.images(pixels)
    if len(own) >= 2 and scores.clip_i >= likeness_within(own) - LOW:
        return found, None
    with_class = yield from evaluate.of_class_word(session, overlay, name, plan)
    plain = clip_i(towers.images(with_class), own)
    if scores.clip_i < plain - CLEAR_CLIP:
        found.append(f"CLIP-I is {scores.clip_i:.3f}, that of the class word {plain:.3f}")
    return found, plain
