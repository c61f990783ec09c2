"""The order of the stages and what each may cost: all of them in one plan, or those that are named.

Owns time and order; must not know losses.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pocket.errors import PocketError
from pocket.machine import Machine, machine
from pocket.training import clip, latents, models, pack, recipes, render, samples, tokenizer, unet, vae
from pocket.training.course import Course
from pocket.training.events import Event
from pocket.training.work import Work, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from pocket.training.recipes import Recipe

ALL = ("tokenizer", "render", "vae", "clip", "latents", "unet", "sheet", "pack")

MARGIN_S = 40
"""Of a stage's time, left for its last state on disk (at most a tenth of it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """What to train, where, and for how long."""

    work: Path
    """Folder of the unfinished work; the same one goes on."""
    out: Path
    """Weights folder that the stage `pack` writes."""
    stages: tuple[str, ...] = ()
    """In this order; none means the whole plan, which a later call finishes if this one is cut off."""
    init: Path | None = None
    """Weights that stages without own work start from."""
    minutes: float = 60
    """For all stages together."""
    last: bool = False
    """Let the denoiser's rate fall until the minutes are up."""
    n_scenes: int | None = None
    """Scenes to render; none: as many as suit the device."""
    seed: int | None = None
    """Decides every draw; none takes the clock."""
    decoder_only: bool = False
    """The VAE keeps its encoder."""
    image_tower_only: bool = False
    """CLIP keeps its text tower."""
    tiny: bool = False
    """Small models and a few steps."""
    tiny_steps: int | None = 40
    """So many of them; none: until the minutes are up."""
    batch: int | None = None
    """Samples per step; none: the recipe's."""
    compiled: bool | None = None
    """Whether the denoiser is compiled; none: on CPUs that compute bf16."""
    margin_s: float = MARGIN_S
    """Left of a stage's time for its last state."""
    rate_scale: float = 1.0
    """Multiplies every learning rate; 0 shows that a check can fail."""
    device: str = "cpu"


def trained(spec: TrainSpec) -> Generator[Event, None, None]:
    """Run the stages; every event is in the log before it is yielded."""
    spec.work.mkdir(parents=True, exist_ok=True)
    if spec.init is not None and not (spec.init / "model_index.json").is_file():
        raise PocketError(f"no weights in {spec.init}", hint="give --init a folder with model_index.json")
    work = Work(folder=spec.work, init=spec.init)
    clock = _Clock(spec, work)
    for stage in spec.stages or ALL:
        if clock.is_done(stage):
            continue
        for event in _stage(stage, spec, work, clock):
            work.note({"stage": event.stage, "step": event.step, "text": event.text, **event.numbers})
            yield event
            clock.tick(stage)
        clock.done(stage)


class _Clock:
    """Seconds spent per stage. Those of a whole plan outlive a kill; named stages start at nought."""

    def __init__(self, spec: TrainSpec, work: Work) -> None:
        self._spec = spec
        self._path = work.path("plan.json")
        self._record: dict[str, Any] = {"spent": {}, "done": []}
        if not spec.stages and self._path.is_file():
            self._record = read_json(self._path)
            if set(ALL) <= set(self._record["done"]):
                raise PocketError(f"the plan in {spec.work} is done", hint="to train on, name stages: unet sheet pack")
        self._last = self._written = time.monotonic()

    def is_done(self, stage: str) -> bool:
        return not self._spec.stages and stage in self._record["done"]

    def spent(self, stage: str) -> float:
        return float(self._record["spent"].get(stage, 0.0))

    def tick(self, stage: str) -> None:
        """Book the time since the last tick on a stage; write it down every few seconds."""
        now = time.monotonic()
        self._record["spent"][stage] = self.spent(stage) + now - self._last
        self._last = now
        if not self._spec.stages and now - self._written > 5:
            self._write()

    def done(self, stage: str) -> None:
        self.tick(stage)
        if not self._spec.stages:
            self._record["done"].append(stage)
            self._write()

    def course(self, stage: str, *, decay_from: float, max_steps: int | None) -> Course:
        """A training stage's time: its share, or for the last of them all that is left."""
        self.tick(stage)
        total = self._spec.minutes * 60
        training = [s for s in (self._spec.stages or ALL) if s in recipes.PLAN_SHARES]
        if stage == training[-1]:
            budget = total - sum(s for other, s in self._record["spent"].items() if other != stage)
        else:
            budget = total * recipes.PLAN_SHARES[stage] / sum(recipes.PLAN_SHARES[s] for s in training)
        return Course(
            budget_s=budget - min(self._spec.margin_s, 0.1 * budget),
            spent_before_s=self.spent(stage),
            decay_from=decay_from,
            max_steps=max_steps,
        )

    def _write(self) -> None:
        write_json(self._path, self._record)
        self._written = time.monotonic()


def _stage(stage: str, spec: TrainSpec, work: Work, clock: _Clock) -> Iterator[Event]:
    if stage in recipes.PLAN_SHARES:
        return _training_stage(stage, spec, work, clock)
    if stage == "tokenizer":
        return tokenizer.make_tokenizer(work)
    if stage == "render":
        return render.render(work, n_scenes=_n_scenes(spec), seen=unet.samples_seen(work), seed=spec.seed)
    if stage == "latents":
        return latents.encode_latents(work, _machine(spec))
    if stage == "sheet":
        return _sheet(spec, work)
    if stage == "pack":
        return pack.pack(work, spec.out)
    raise PocketError(f"there is no stage {stage!r}", hint=f"stages are {', '.join(ALL)}")


def _training_stage(stage: str, spec: TrainSpec, work: Work, clock: _Clock) -> Iterator[Event]:
    on = _machine(spec)
    seed = time.time_ns() % 2**31 if spec.seed is None else spec.seed
    recipe = _recipe({"vae": recipes.VAE, "clip": recipes.CLIP, "unet": recipes.UNET}[stage], spec)
    if stage == "unet":
        decay_from = 0.0 if spec.last else 1.0 if spec.stages else recipes.PLAN_DECAY_FROM
        course = clock.course(stage, decay_from=decay_from, max_steps=recipe.max_steps)
        return unet.train_unet(work, on, recipe, course, small=spec.tiny, seed=seed)
    course = clock.course(stage, decay_from=0.0, max_steps=recipe.max_steps)
    if stage == "vae":
        return vae.train_vae(work, on, recipe, course, small=spec.tiny, decoder_only=spec.decoder_only, seed=seed)
    return clip.train_clip(work, on, recipe, course, small=spec.tiny, image_tower_only=spec.image_tower_only, seed=seed)


def _machine(spec: TrainSpec) -> Machine:
    """Tiny models gain nothing from bf16."""
    return replace(machine(spec.device), bf16=False) if spec.tiny else machine(spec.device)


def _recipe(recipe: Recipe, spec: TrainSpec) -> Recipe:
    recipe = recipes.tiny(recipe, steps=spec.tiny_steps) if spec.tiny else recipe
    on_gpu = None if recipe.peak_gpu is None else recipe.peak_gpu * spec.rate_scale
    recipe = replace(recipe, peak=recipe.peak * spec.rate_scale, peak_gpu=on_gpu, compiled=spec.compiled)
    return recipe if spec.batch is None else replace(recipe, batch=spec.batch, batch_gpu=spec.batch)


def _n_scenes(spec: TrainSpec) -> int:
    if spec.n_scenes is not None:
        return spec.n_scenes
    if spec.tiny:
        return recipes.SCENES_TINY
    return recipes.SCENES if spec.device == "cpu" else recipes.SCENES_GPU


def _sheet(spec: TrainSpec, work: Work) -> Iterator[Event]:
    pipeline = models.pipeline_of(work, latents.latents_scale(work)).to(spec.device)
    path = samples.draw_samples(work, pipeline, unet.samples_seen(work), steps=2 if spec.tiny else 25)
    yield Event(stage="sheet", text=f"wrote {path}")
