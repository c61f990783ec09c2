"""What a base model says about images before they are trained, and about a concept by its scores.

Owns when this is measured; must not know the rule (`metrics/verdict.py`) or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cnsctl import results
from cnsctl.app.counting import Count
from cnsctl.app.measuring import FEW, sample
from cnsctl.app.probes import errors_of_base
from cnsctl.app.stores import open_base
from cnsctl.events import Event, Warn
from cnsctl.metrics.verdict import strange, verdict

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    import torch

    from cnsctl.app.session import Session
    from cnsctl.engine.job import Job

COMPARE = "compare the images with the base model"

NONE = results.Scores(error_removed=None, clip_i=None, clip_t=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """How well the base model alone predicts images."""

    denoising_error: float
    """Without any text."""
    class_word_error: float
    """With the class word."""

    def beside(self, scores: results.Scores) -> results.Scores:
        """The scores of a concept with these numbers."""
        return replace(scores, denoising_error=self.denoising_error, class_word_error=self.class_word_error)


def compared(session: Session, job: Job) -> Generator[Event, None, Known | None]:
    """Before a training run, warn of images that are unlike what the base model can generate, and of a wrong class word."""
    if not _usual(session):
        return None
    count = Count(COMPARE, known_passes(session, len(job.latents)))
    yield count.begin()
    found = yield from count.each(known(session, job.name, job.class_word, job.latents))
    if found is not None:
        yield from _warnings(session, job.class_word, found.beside(NONE))
    return found


def alike(session: Session, class_word: str, likeness: float) -> Iterator[Event]:
    """Before a training run, warn of images that have little in common, by CLIP-I of each with the others."""
    yield from _warnings(session, class_word, replace(NONE, clip_i_real=likeness))


def _warnings(session: Session, class_word: str, scores: results.Scores) -> Iterator[Event]:
    for what in strange(scores, _usual(session), class_word=class_word, base=session.base.name):
        yield Warn(text=what.text, reason=what.reason)


def known(
    session: Session, name: str, class_word: str, latents: Sequence[torch.Tensor]
) -> Generator[None, None, Known | None]:
    """Measure some of the images; None if the base model is not calibrated. Yields after each pass, of two per image."""
    if not _usual(session):
        return None
    some = [latents[i] for i in sample(len(latents), FEW)]
    without_text, with_class = yield from errors_of_base(session, name, class_word, some)
    return Known(denoising_error=without_text, class_word_error=with_class)


def known_passes(session: Session, n_images: int) -> int:
    """How many passes `known` takes."""
    return 2 * min(n_images, FEW) if _usual(session) else 0


def judge(
    session: Session, scores: results.Scores, class_word: str, clip_i_class: float | None
) -> results.Verdict | None:
    """The verdict on a concept; None if its base model is not calibrated, or nothing was measured."""
    usual, base = _usual(session), session.base.name
    return verdict(scores, usual, class_word=class_word, base=base, clip_i_class=clip_i_class)


def _usual(session: Session) -> Mapping[str, tuple[float, float]]:
    """The ranges of the base model. Those of scores by CLIP hold for its own CLIP only."""
    usual = open_base(session.store).usual
    own = session.store.clip is None
    return {name: limits for name, limits in usual.items() if own or not name.startswith("clip_")}
