"""How thoroughly a concept is measured: a short ladder, of which `add` takes the first rung that it has time for.

Owns levels, samples of images and the choice; must not know models or terminals.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from cnsctl.events import Event, Step

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from cnsctl.results import Scores
    from cnsctl.settings import GenerateSettings, TrainSettings

R = TypeVar("R")

SHARE = 0.10
"""Of the training time, that measuring may take."""

ALWAYS_S = 2.0
"""Seconds that measuring may take after any training, however short."""

FORWARD_SHARE = 0.5
"""Of the time of training on a row, that denoising it once takes. Measured: a third to a half; the rest is backward."""

DECODE_ROWS = 4
"""Denoised rows that take as long as decoding an image: 2 on pocket, 4 at the size of Stable Diffusion 1.5."""

ERROR_ROWS = 10
"""Denoised rows per image of error removed: five noise levels, with the concept and with the class word."""

MANY, FEW = 20, 5
"""The concept's own images on which it is measured at most."""

clock = time.perf_counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Which images are generated for a measurement. Scores of two levels are not comparable."""

    name: str
    """Recorded with the scores. A name never changes its meaning: other settings get another name."""
    places: int
    """Probe prompts that name a place."""
    seeds: int
    """Of each."""
    steps: int | None = None
    """Inference steps; None for the base model's own."""
    scored: bool = True
    """Whether the images give CLIP scores, not only a preview."""

    @property
    def images(self) -> int:
        return self.places * self.seeds

    def settings(self, own: GenerateSettings) -> GenerateSettings:
        """From the base model's own settings: at most `steps` steps. Smaller images would be worse than fewer."""
        return own if self.steps is None else replace(own, steps=min(own.steps, self.steps))


FULL = Level(name="full", places=2, seeds=2)
QUICK = Level(name="quick", places=2, seeds=1, steps=12)
PREVIEW = Level(name="preview", places=1, seeds=1, steps=8, scored=False)
NO_IMAGES = Level(name="none", places=0, seeds=0, scored=False)

LEVELS: Mapping[str, Level] = {level.name: level for level in (FULL, QUICK, PREVIEW, NO_IMAGES)}
"""By the name in a record."""

LADDER: Sequence[tuple[int, Level]] = ((MANY, FULL), (MANY, QUICK), (FEW, QUICK), (FEW, PREVIEW), (FEW, NO_IMAGES))
"""From thorough to quick: own images at most, and the images to generate. Error removed is on every rung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured of one concept."""

    rows: Sequence[int]
    """Its own images, of those that it may be measured on."""
    level: Level
    """The images that are generated."""

    @property
    def is_whole(self) -> bool:
        return self.level is FULL


def plan(
    n_images: int, settings: TrainSettings, own: GenerateSettings, *, step_s: float | None, preview: bool = True
) -> Plan:
    """The first rung of the ladder that takes at most 10 % of the training time, or two seconds; else the last rung.

    Cost and budget are multiples of the same training step. So the clock decides only about the two seconds, and
    equal runs on any machine on which training takes longer than 20 seconds are measured alike.

    Args:
        n_images: the concept's own images that it may be measured on.
        settings: of the training.
        own: the base model's settings for generating.
        step_s: seconds of a training step; None if this process has not trained.
        preview: whether images may be generated.
    """
    rows = settings.batch_size * settings.accumulate / FORWARD_SHARE  # denoised in the time of a training step
    budget = SHARE * settings.steps * rows
    if step_s is not None and step_s > 0:
        budget = max(budget, ALWAYS_S * rows / step_s)
    rungs = LADDER if preview else [(most, NO_IMAGES) for most in (MANY, FEW)]
    found = next((rung for rung in rungs if _cost(n_images, *rung, own) <= budget), rungs[-1])
    return Plan(rows=sample(n_images, found[0]), level=found[1])


def _cost(n_images: int, most: int, level: Level, own: GenerateSettings) -> int:
    """Rows to denoise."""
    guided = 2 if own.guidance_scale > 1 else 1
    image = level.settings(own).steps * guided + DECODE_ROWS
    return ERROR_ROWS * min(n_images, most) + level.images * image


def sample(n: int, most: int) -> list[int]:
    """At most so many of n images, ascending: the same ones in every call; a larger sample contains a smaller one."""
    from cnsctl.engine.seeds import fold

    if n <= most:
        return list(range(n))
    return sorted(sorted(range(n), key=lambda i: fold("measured image", i))[:most])


def plan_again(trained: Scores, n_images: int, *, full: bool = False) -> Plan:
    """How a concept was measured after its training, so that scores can be compared; in full if it was not.

    Args:
        trained: its scores after training.
        n_images: its own images that it may be measured on.
        full: in full in any case.
    """
    level = FULL if full else LEVELS.get(str(trained.level), FULL)
    most = MANY if full or trained.measured_on is None else trained.measured_on
    return Plan(rows=sample(n_images, most), level=level if level.scored else FULL)


def timed(work: Generator[Event, None, R]) -> Generator[Event, None, tuple[R, float | None]]:
    """Do the work; return its result and the median seconds of its steps, None without steps.

    The time between two events belongs to the caller and does not count.
    """
    steps: list[float] = []
    with closing(work):
        while True:
            began = clock()
            try:
                event = next(work)
            except StopIteration as done:
                return done.value, median(steps) if steps else None
            if isinstance(event, Step):
                steps.append(clock() - began)
            yield event
