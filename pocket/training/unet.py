"""The denoiser: v-prediction on latents, with the text tower's features as context.

Owns its loss, its noise and its stage; must not know pixels.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pocket.training import models
from pocket.training.events import Event
from pocket.training.graphs import Replayed
from pocket.training.latents import latents
from pocket.training.learner import Learner
from pocket.training.recipes import SCHEDULE, UNET_GOES_ON
from pocket.training.render import captions, coverage
from pocket.training.samples import draw_samples
from pocket.training.work import read_json, read_notes, write_json
from pocket.weights import load_tokenizer, token_ids
from pocket.world.places import EVERYWHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from pocket.machine import Machine
    from pocket.training.course import Course
    from pocket.training.recipes import Recipe
    from pocket.training.work import Work

PLACE = re.compile(f" ({'|'.join(map(re.escape, EVERYWHERE))})$")
NO_PLACE, NO_TEXT = 0.12, 0.1
"""Shares of captions that lose their place, and of those that then lose everything."""

LOW_SHARE, LOW_END = 0.30, 300
"""So many of the steps are drawn below t = 300: most go where it is decided what stands where."""

BANDS = 5
AVERAGE_EVERY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Everything that a step reads, on the device."""

    z: torch.Tensor
    """Latents (n, 8, 16, 16), half precision, unscaled."""
    scale: float
    features: torch.Tensor
    """Of every distinct text (m, 32, d), half precision."""
    coverage: torch.Tensor
    """Share of each latent cell that is subject (n, 16, 16), 0..1, half precision."""
    full: torch.Tensor
    """Row of each scene's caption (n,)."""
    bare: torch.Tensor
    """Row of the same without its place (n,)."""
    empty: torch.Tensor
    """Row of the empty text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step learns from."""

    x: torch.Tensor
    """Noised latents (b, 8, 16, 16)."""
    v: torch.Tensor
    """What is to be predicted (b, 8, 16, 16)."""
    t: torch.Tensor
    """Noise steps (b,)."""
    context: torch.Tensor
    """Text features (b, 32, d), fp32."""
    coverage: torch.Tensor
    """Share of each cell that is subject (b, 16, 16)."""


def train_unet(work: Work, on: Machine, recipe: Recipe, course: Course, *, small: bool, seed: int) -> Iterator[Event]:
    """Train the denoiser, or go on.

    Args:
        work: the folder.
        on: where to compute.
        recipe: numbers.
        course: time.
        small: a tiny model, if a new one is made.
        seed: decides new weights, batches, steps and noise.
    """
    torch.manual_seed(seed)  # new weights
    learner = _learner(work, on, recipe, small=small)
    data = _dataset(work, on)
    alphas = alphas_cumprod().to(on.device)
    take = _stepper(learner, alphas, on, recipe)
    generator = torch.Generator(on.device).manual_seed(seed + learner.step)
    batch = recipe.batch_gpu if on.is_gpu else recipe.batch
    bands = np.full(BANDS, np.nan)
    sampled = time.monotonic()
    yield _began(learner, data, on)
    with learner.kept(course):
        while course.goes_on(learner.steps):
            rate = course.rate(learner.steps, peak=learner.notes["peak"], warm=recipe.warm, before=learner.before)
            these = noised(data, alphas, batch, generator)
            errors = take(these, rate)  # (b,)
            if learner.step % AVERAGE_EVERY == 0:
                learner.follow(average_decay(learner.step) ** AVERAGE_EVERY)
            bands = _smoothed(bands, errors, these.t) if learner.steps % 10 == 0 or recipe.log_every < 10 else bands
            if learner.steps % recipe.log_every == 0:
                yield _told(learner, errors, bands, batch, course)
            if learner.save_due():
                learner.save(course)
                yield Event(stage="unet", text="wrote the state", step=learner.step)
            if time.monotonic() - sampled > recipe.sample_s:
                draw_samples(work, models.pipeline_of(work, data.scale, _averaged(learner)).to(on.device), learner.step)
                sampled = time.monotonic()
    learner.save(course)
    yield Event(stage="unet", text="stopped", step=learner.step, numbers={"samples_seen": float(learner.seen)})


def _stepper(
    learner: Learner, alphas: torch.Tensor, on: Machine, recipe: Recipe
) -> Callable[[Batch, float], torch.Tensor]:
    """How a step is taken: compiled on CPUs, recorded on CUDA, where compiling takes minutes and gains little."""
    pays = on.bf16 and recipe.max_steps is None and not on.is_gpu
    compiled = pays if recipe.compiled is None else recipe.compiled
    run = torch.compile(learner.model) if compiled else learner.model
    weights = loss_weight(alphas)
    replayed: list[Replayed] = []

    def losses(
        x: torch.Tensor, v: torch.Tensor, t: torch.Tensor, context: torch.Tensor, covered: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with on.amp():
            y = run(x, t, context).sample
        squares = (y.float() - v).square().mean(1)  # (b, 16, 16)
        weighted = (squares * subject_weight(covered, recipe.subject)).mean((1, 2))
        return (weights[t] * weighted).mean(), squares.mean((1, 2)).detach()

    def take(these: Batch, rate: float) -> torch.Tensor:
        inputs = (_laid_out(these.x, on), these.v, these.t, these.context, these.coverage)
        if these.x.is_cuda:
            if not replayed:
                replayed.append(Replayed(losses, learner, inputs))
            learner.set_rate(rate)
            errors = replayed[0](*inputs)
            learner.count(len(these.x))
        else:
            loss, errors = losses(*inputs)
            learner.learn(loss, len(these.x), rate)
        return errors

    return take


def noised(data: Dataset, alphas: torch.Tensor, batch: int, generator: torch.Generator) -> Batch:
    """Scenes, texts, steps and noise by chance."""
    device = data.z.device
    rows = torch.randint(0, len(data.z), (batch,), device=device, generator=generator)
    chance = torch.rand(2, batch, device=device, generator=generator)
    texts = torch.where(chance[0] < NO_PLACE, data.bare[rows], data.full[rows])
    texts = torch.where(chance[1] < NO_TEXT, data.empty, texts)
    t = noise_steps(batch, generator)
    z = data.z[rows].float() * data.scale
    noise = torch.randn(z.shape, device=device, generator=generator)
    signal, dirt = (a.sqrt()[:, None, None, None] for a in (alphas[t], 1 - alphas[t]))
    return Batch(
        x=signal * z + dirt * noise,
        v=signal * noise - dirt * z,
        t=t,
        context=data.features[texts].float(),
        coverage=data.coverage[rows].float(),
    )


def noise_steps(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Steps 0..999 (b,): one from each of b equal slices, so that batches resemble each other."""
    device = generator.device
    u = (torch.arange(batch, device=device) + torch.rand(batch, device=device, generator=generator)) / batch
    low, high = u / LOW_SHARE * LOW_END, LOW_END + (u - LOW_SHARE) / (1 - LOW_SHARE) * (1000 - LOW_END)
    return torch.where(u < LOW_SHARE, low, high).long().clamp(0, 999)


def average_decay(step: int) -> float:
    """Of the weights' average, per step: it remembers a tenth of all steps, at most 2,000."""
    return min(0.9995, step / (step + 10))


def loss_weight(alphas: torch.Tensor) -> torch.Tensor:
    """Weight of the error at each step (1000,): (1 + min(snr, 5)) / (1 + snr).

    Min-SNR weights starve the high-noise steps, where v-prediction decides what stands where: pictures stay blobs.
    """
    snr = alphas / (1 - alphas)
    return (1 + snr.clamp(max=5)) / (1 + snr)


def subject_weight(coverage: torch.Tensor, extra: float) -> torch.Tensor:
    """Weight of each cell (b, 16, 16): a cell full of subject counts 1 + extra times one without; 1 in the mean.

    Backgrounds are learned first, and their details are mostly chance; what is hard are the subjects.
    """
    weight = 1 + extra * coverage
    return weight / weight.mean()


def alphas_cumprod() -> torch.Tensor:
    """Share of the signal's power that is left at each step (1000,)."""
    from diffusers import DDPMScheduler

    alphas: torch.Tensor = DDPMScheduler(**SCHEDULE).alphas_cumprod
    return alphas


def without_place(caption: str) -> str:
    return PLACE.sub("", caption)


def samples_seen(work: Work) -> int:
    """What the denoiser on disk has learned from so far, in samples."""
    if work.has(models.UNET_STATE):
        return int(read_notes(work.path(models.UNET_STATE))["seen"])
    return 0


def _learner(work: Work, on: Machine, recipe: Recipe, *, small: bool) -> Learner:
    """The denoiser with everything it remembers."""
    from diffusers.models.attention_processor import AttnProcessor

    start = models.unet_to_train(work, small=small)
    model = on.place(start.model) if on.is_gpu else start.model
    if not on.is_gpu:
        model.set_attn_processor(AttnProcessor())  # sdpa's backward is slow on CPUs
        if not on.bf16:
            model.to(memory_format=torch.channels_last)
    path = work.path(models.UNET_STATE)
    learner = Learner(model.train(), recipe, path=path, config=start.config, averaged=True)
    lent = not learner.resume() and start.trained
    full = recipe.peak if recipe.peak_gpu is None or not on.is_gpu else recipe.peak_gpu
    learner.notes.setdefault("peak", min(full, UNET_GOES_ON) if lent and not on.is_gpu else full)
    return learner


def _dataset(work: Work, on: Machine) -> Dataset:
    """One pass of the text tower over the distinct texts; training reads rows."""
    z, scale = latents(work)
    texts = captions(work)
    bare = [without_place(text) for text in texts]
    distinct = sorted({*texts, *bare, ""})
    row = {text: i for i, text in enumerate(distinct)}
    return Dataset(
        z=z.to(on.device),
        scale=scale,
        features=_features(work, on, distinct),
        coverage=torch.from_numpy(coverage(work)).to(on.device).half() / 255,
        full=torch.tensor([row[text] for text in texts], device=on.device),
        bare=torch.tensor([row[text] for text in bare], device=on.device),
        empty=torch.tensor(row[""], device=on.device),
    )


@torch.no_grad()
def _features(work: Work, on: Machine, texts: list[str], batch: int = 1024) -> torch.Tensor:
    """Of every text (n, 32, d), half precision; kept on disk, since minutes of CPU go into them."""
    encoder = models.text_encoder_of(models.clip_to_use(work)).to(on.device)
    ids = token_ids(load_tokenizer(work.tokenizer()), texts)
    key = models.digest({"ids": ids, **encoder.state_dict()})
    if not work.has("features.json") or read_json(work.path("features.json")) != key:
        work.path("features.json").unlink(missing_ok=True)
        shape = (*ids.shape, encoder.config.hidden_size)
        kept = np.lib.format.open_memmap(work.path("features.npy"), "w+", np.float16, shape)
        for i in range(0, len(ids), batch):
            kept[i : i + batch] = encoder(ids[i : i + batch].to(on.device)).last_hidden_state.half().cpu().numpy()
        kept.flush()
        write_json(work.path("features.json"), key)
    return torch.from_numpy(np.load(work.path("features.npy"))).to(on.device)


def _laid_out(x: torch.Tensor, on: Machine) -> torch.Tensor:
    """Channels last is faster on GPUs and in fp32 on CPUs, and slower in their bf16."""
    return x.contiguous(memory_format=torch.channels_last) if on.is_gpu or not on.bf16 else x


def _averaged(learner: Learner) -> Any:
    """A copy of the denoiser that holds the averaged weights, on the CPU."""
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel.from_config(learner.config)
    model.load_state_dict(learner.weights())
    return model.eval()


def _smoothed(bands: NDArray[np.float64], errors: torch.Tensor, t: torch.Tensor) -> NDArray[np.float64]:
    """Running error by fifth of the noise; a fifth that a batch lacks keeps its value."""
    width = 1000 // BANDS
    inside = [errors[(t >= k * width) & (t < (k + 1) * width)] for k in range(BANDS)]
    now = np.array([float(e.mean()) if len(e) else np.nan for e in inside])
    mixed = np.where(np.isnan(now), bands, 0.9 * bands + 0.1 * now)
    return np.where(np.isnan(bands), now, mixed)


def _began(learner: Learner, data: Dataset, on: Machine) -> Event:
    text = f"{len(data.z)} scenes, {len(data.features)} texts, bf16 {on.bf16}"
    return Event(stage="unet", text=text, step=learner.step)


def _told(learner: Learner, errors: torch.Tensor, bands: NDArray[np.float64], batch: int, course: Course) -> Event:
    seconds = max(1e-9, course.spent_s() - course.spent_before_s)
    numbers: dict[str, float | list[float]] = {
        "loss": float(errors.mean()),
        "by_fifth_of_noise": [float(b) for b in bands],
        "samples_per_s": learner.steps * batch / seconds,
        "samples_seen": float(learner.seen),
    }
    return Event(stage="unet", text="", step=learner.step, numbers=numbers)
