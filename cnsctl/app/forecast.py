"""What a command will do: its phases in order, each with its rough cost.

Owns the costs, in rows that the denoiser computes once; must not know seconds, models or terminals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cnsctl.app.measuring import DECODE_ROWS, ERROR_ROWS, FORWARD_SHARE
from cnsctl.events import SELECT_NEURONS, TRAIN_NEURONS, TRAIN_TOKEN, Ahead, Event

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from cnsctl.app.measuring import Plan
    from cnsctl.settings import GenerateSettings, TrainSettings

R = TypeVar("R")

Costs = tuple[tuple[str, float], ...]
"""Phases in order, each with its cost."""

LOAD, ENCODE, GENERAL, SAVE = "load the base model", "encode the images", "find general neurons", "save the concept"
OTHERS = "check that nothing was forgotten"
MEASURE, GENERATE, COMPARE = "measure error removed", "generate", "compare by CLIP"
OF_BASE, OF_CLASS = "generate without a concept", "generate with the class word"
"""Names of phases that this layer begins; those of the training are in `cnsctl.events`."""

LOAD_SHARE = 0.1
"""Of the rest: what loading a base model takes of the bar. Its time says nothing about the rest, and is not compared."""

GENERAL_ROWS, SELECT_ROWS = 20, 5
"""Of finding general neurons, which are cached, and of selecting a concept's: on pocket."""


def after_loading(costs: Costs, *, share: float = LOAD_SHARE) -> Ahead:
    """Of a command that loads the base model first; if it is loaded already, that phase is skipped."""
    return Ahead(phases=((LOAD, share * sum(cost for _, cost in costs)), *costs))


def image_rows(settings: GenerateSettings) -> int:
    """Of generating an image."""
    return settings.steps * (2 if settings.guidance_scale > 1 else 1) + DECODE_ROWS


def step_rows(settings: TrainSettings) -> float:
    """Of a training step."""
    return settings.batch_size * settings.accumulate / FORWARD_SHARE


def selecting(n_images: int, settings: TrainSettings, *, looks: float = 0.0) -> Costs:
    """Of everything before the neurons are trained; `looks` is the cost of previews per training step."""
    warmup = round(settings.warmup * settings.steps)
    return (
        (ENCODE, n_images),
        (GENERAL, GENERAL_ROWS),
        (TRAIN_TOKEN, warmup * (step_rows(settings) + looks)),
        (SELECT_NEURONS, SELECT_ROWS),
    )


def training(n_images: int, settings: TrainSettings, *, looks: float = 0.0) -> Costs:
    """Of a training run, up to the trained neurons; `looks` is the cost of previews per training step."""
    steps = settings.steps - round(settings.warmup * settings.steps)
    return (*selecting(n_images, settings, looks=looks), (TRAIN_NEURONS, steps * (step_rows(settings) + looks)))


def saving(n_images: int, plan: Plan | None, own: GenerateSettings, *, others: int = 0) -> Costs:
    """Of what follows the training: the check of other concepts, the measurement, the commit."""
    check = ((OTHERS, others * 3 * ERROR_ROWS),) if others else ()
    return (*check, *(() if plan is None else measuring(plan, own)), (SAVE, 0.5 * n_images))


def measuring(plan: Plan, own: GenerateSettings) -> Costs:
    """Of measuring a new concept."""
    n, level = len(plan.rows), plan.level
    found: Costs = ((MEASURE, ERROR_ROWS * n),)
    if level.images:
        found += ((GENERATE, level.images * image_rows(level.settings(own))),)
    return (*found, (COMPARE, n)) if level.scored else found


def evaluating(plans: Sequence[Plan], own: GenerateSettings, *, noises: int, drift: int) -> Costs:
    """Of `eval`: error removed at several noise seeds, images with and without the concept, drift of the base model.

    Args:
        plans: of the concepts.
        own: the base model's settings for generating.
        noises: noise seeds.
        drift: images of the base model that are compared; 0 without images.
    """
    found: Costs = ((MEASURE, sum(ERROR_ROWS * noises * len(plan.rows) for plan in plans)),)
    if not drift:
        return found
    images = sum(2 * plan.level.images * image_rows(plan.level.settings(own)) for plan in plans)
    return (*found, (GENERATE, images), (OF_BASE, 2 * drift * image_rows(own)))


def followed(work: Generator[Event, None, R], later: Costs) -> Generator[Event, None, R]:
    """Do the work as a part of a larger one, of which these phases come later."""
    while True:
        try:
            event = next(work)
        except StopIteration as done:
            result: R = done.value
            return result
        yield Ahead(phases=(*event.phases, *later)) if isinstance(event, Ahead) else event
