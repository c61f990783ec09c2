"""What a concept is measured with: probe prompts and seeds, the images that they give, and the scores of those images.

Owns the prompts and seeds, which are fixed so that scores can be compared over time; must not know phases or results of
commands.
"""

from __future__ import annotations

from statistics import stdev
from typing import TYPE_CHECKING

from cnsctl import results
from cnsctl.app.concepts import holdout_of
from cnsctl.app.session import Session, judged
from cnsctl.data.prompt_grammar import parse, render_class
from cnsctl.data.prompt_templates import probe_prompts
from cnsctl.events import Denoised
from cnsctl.metrics.error_removed import error_removed
from cnsctl.metrics.similarity import clip_i, clip_t, likeness_within

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cnsctl.app.measuring import Level, Plan
    from cnsctl.bases.clip import ClipTowers
    from cnsctl.bases.metric_models import ImageFeatures, StockClip
    from cnsctl.concept import Prompt
    from cnsctl.engine.overlay import Overlay
    from cnsctl.settings import GenerateSettings
    from cnsctl.store import ConceptRecord

    Pixels = NDArray[np.uint8]
    Features = NDArray[np.floating]

SEEDS = (0, 1)
"""Of the probe images, for each probe prompt that names a place."""

NOISES = (0, 1, 2)
"""Noise seeds of error removed; the first gives the figure that is saved."""


def probes(name: str, level: Level) -> list[tuple[Prompt, int]]:
    """The probe prompts of a level that name a place, each with the fixed seeds."""
    return [(prompt, seed) for prompt in probe_prompts(name)[1:][: level.places] for seed in SEEDS[: level.seeds]]


def class_prompt(overlay: Overlay, prompt: Prompt) -> Prompt:
    """The same prompt with the class word instead of the concept."""
    return parse(render_class(prompt, {n: c.class_word for n, c in overlay.concepts.items()}), ())


def encoded(session: Session, record: ConceptRecord, plan: Plan) -> Generator[None, None, list[torch.Tensor]]:
    """Encode the images that the concept is measured on; yields after each: (c, h, w) fp32 on the CPU, each of its own shape."""
    chosen = judged(len(record["references"]), holdout_of(record), plan.rows)
    return (yield from session.encoding(session.references(record, chosen)))


def generating(
    session: Session, overlay: Overlay, asked: Sequence[tuple[Prompt, int]], settings: GenerateSettings
) -> Generator[Denoised | None, None, list[Pixels]]:
    """Generate prompts, each with a seed; yields the parts of each image, and None after it.

    Raises:
        CnsctlError: the latents of an image contain NaN or Inf.
    """
    from cnsctl.engine.generate import Request, Texts, generation, not_finite

    images = []
    requests = [Request(prompt=prompt, seed=seed) for prompt, seed in asked]
    for event in generation(Texts(session.base, settings), overlay, requests, settings):
        if isinstance(event, Denoised):
            yield event
            continue
        if event.pixels is None:
            raise not_finite(settings)
        images.append(event.pixels)
        yield None
    return images


def removed_error(
    session: Session, overlay: Overlay, name: str, latents: Sequence[torch.Tensor], *, noise: int = 0
) -> Generator[None, None, float]:
    """Error removed, percent: the denoising error with the concept against that of the base model with the class word.

    Without any delta: in merged mode all deltas act on the class word too, and the reference must not change with the
    store. Yields after each denoising pass, of two per image.
    """
    from cnsctl.engine.denoising_error import errors_by_image, mean_error
    from cnsctl.engine.overlay import EMPTY

    prompt, means = probe_prompts(name)[0], []
    for acting, asked in ((overlay, prompt), (EMPTY, class_prompt(overlay, prompt))):
        errors = []
        for error in errors_by_image(session.base, acting, asked, latents, noise_seed=noise):
            errors.append(error)
            yield
        means.append(mean_error(errors))
    return error_removed(*means)


def removed_error_with_spread(
    session: Session, overlay: Overlay, name: str, latents: Sequence[torch.Tensor]
) -> Generator[None, None, tuple[float, float]]:
    """`removed_error`, and its standard deviation over three noise seeds."""
    found = {}
    for noise in NOISES:
        found[noise] = yield from removed_error(session, overlay, name, latents, noise=noise)
    return found[NOISES[0]], stdev(found.values())


def errors_of_base(
    session: Session, name: str, class_word: str, latents: Sequence[torch.Tensor]
) -> Generator[None, None, tuple[float, float]]:
    """Denoising error of the base model alone, without any text and with the class word; yields after each pass."""
    from cnsctl.engine.denoising_error import errors_by_image, mean_error
    from cnsctl.engine.overlay import EMPTY

    means = []
    for text in ("", render_class(probe_prompts(name)[0], {name: class_word})):
        errors = []
        for error in errors_by_image(session.base, EMPTY, parse(text, ()), latents):
            errors.append(error)
            yield
        means.append(mean_error(errors))
    return means[0], means[1]


def features(towers: ImageFeatures, pixels: Sequence[Pixels]) -> Generator[None, None, Features]:
    """Features of images, one by one; yields after each."""
    import numpy as np

    found = []
    for image in pixels:
        found.append(towers.images([image]))
        yield
    return np.concatenate(found)


def clip_scores(
    towers: ClipTowers | StockClip | None, texts: Sequence[str], generated: Sequence[Pixels], own: Features | None
) -> results.Scores:
    """CLIP-I against the concept's own images (mean over pairs) and CLIP-T of each image against its text.

    All are None if the base model has no CLIP.
    """
    if towers is None or own is None:
        return results.Scores(error_removed=None, clip_i=None, clip_t=None)
    features = towers.images(generated)
    return results.Scores(
        error_removed=None,
        clip_i=clip_i(features, own),
        clip_t=clip_t(features, towers.texts(texts)),
        backbone=towers.backbone,
    )


def clip_i_real(own: Features, training: Features | None = None) -> float | None:
    """CLIP-I of real images, an upper limit: a concept's held-out images against its training images.

    Without held-out images: its images against each other, each pair once; None if it has one image.
    """
    if training is not None:
        return clip_i(own, training)
    return likeness_within(own) if len(own) >= 2 else None
