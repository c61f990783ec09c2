"""The VAE: 128 × 128 pixels to 16 × 16 × 8 latents and back.

Owns its loss and its stage; must not know the denoiser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from pocket.sheets import page
from pocket.training import models
from pocket.training.events import Event
from pocket.training.learner import Learner
from pocket.training.recipes import VAE_GOES_ON
from pocket.training.render import scenes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pocket.machine import Machine
    from pocket.training.course import Course
    from pocket.training.recipes import Recipe
    from pocket.training.work import Work

UNSEEN = 64
"""So many scenes at the end of a set are kept out of training (of small sets an eighth)."""

CROPPED = 0.7
"""Share of the time on quarter crops: four times as many steps."""


def train_vae(
    work: Work, on: Machine, recipe: Recipe, course: Course, *, small: bool, decoder_only: bool, seed: int
) -> Iterator[Event]:
    """Train the VAE, or go on.

    Args:
        work: the folder.
        on: where to compute.
        recipe: numbers.
        course: time.
        small: a tiny model, if a new one is made.
        decoder_only: keep the encoder, so that latents and their scale stay.
        seed: decides new weights, crops, batches and noise.
    """
    torch.manual_seed(seed)  # new weights
    learner, peak = _learner(work, on, recipe, course, small=small, decoder_only=decoder_only)
    model, pictures = learner.model, scenes(work)
    rng = np.random.default_rng([seed, learner.step])
    torch.manual_seed(seed + learner.step)
    batch = recipe.batch_gpu if on.is_gpu else recipe.batch
    error = float("nan")
    with learner.kept(course):
        while course.goes_on(learner.steps):
            rate = course.rate(learner.steps, peak=peak, warm=recipe.warm, before=learner.before)
            x = _batch(pictures, batch, rng, on, cropped=course.share(learner.steps) < CROPPED)
            loss, square = _loss(model, x, on)
            learner.learn(loss, batch, rate)
            learner.follow(min(0.998, learner.step / (learner.step + 20)))
            error = float(square) if error != error else 0.97 * error + 0.03 * float(square)  # noqa: PLR0124 — nan at first
            if learner.steps % recipe.log_every == 0:
                yield _told(learner, loss, error, batch, course)
            if learner.save_due():
                learner.save(course)
    unseen = _finish(work, learner, course, pictures, on, decoder_only=decoder_only)
    yield Event(stage="vae", text="unseen", step=learner.step, numbers={"psnr": unseen})


def vae_loss(
    y: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, logvar: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss, and mean squared error, of pictures y (b, 3, h, w) decoded from x.

    L1, weighted up to five-fold near edges (eyes and outlines are few pixels, and all that a person looks at), plus
    squares, differences of neighbours, and a whiff of KL that keeps latents near a unit normal.
    """
    difference = (y - x).abs()
    square = difference.square().mean()
    gx, gy = _gradient(x)
    edge = functional.pad(gx.abs().mean(1, True), (0, 1)) + functional.pad(gy.abs().mean(1, True), (0, 0, 0, 1))
    edge = functional.max_pool2d(edge, 5, 1, 2).clamp(max=1)  # (b, 1, h, w)
    detail = sum((p - q).abs().mean() for p, q in zip(_gradient(y), (gx, gy), strict=True))
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    loss = (difference * (1 + 4 * edge)).mean() + 2 * square + detail + 1e-4 * kl
    return loss, square.detach()


@torch.no_grad()
def latent_scale(model: Any, pictures: NDArray[np.uint8], on: Machine, count: int = 5000) -> float:
    """By what latents are multiplied to have unit variance."""
    sums = torch.zeros(3, dtype=torch.float64)
    for i in range(0, min(count, len(pictures)), 50):
        with on.amp():
            z = model.encode(to_pixels(pictures[i : i + 50], on)).latent_dist.mean.double().cpu()
        sums += torch.tensor([z.numel(), float(z.sum()), float(z.square().sum())], dtype=torch.float64)
    n, total, squares = sums.tolist()
    return float(1 / (squares / n - (total / n) ** 2) ** 0.5)


def to_pixels(levels: NDArray[np.uint8], on: Machine) -> torch.Tensor:
    """Pictures (b, h, w, 3) of bytes as (b, 3, h, w), fp32 in -1..1, on the device."""
    x = torch.from_numpy(np.array(levels)).to(on.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def _learner(
    work: Work, on: Machine, recipe: Recipe, course: Course, *, small: bool, decoder_only: bool
) -> tuple[Learner, float]:
    """The VAE with everything it remembers, and the peak of its rate.

    A course that goes on keeps its peak; a VAE that was trained before learns more gently than a new one. Where the
    encoder stays, the scale of its latents does.
    """
    start = models.vae_to_train(work, small=small)
    model = on.place(start.model).train()
    learner = Learner(model, recipe, path=work.path(models.VAE_STATE), config=start.config, averaged=True)
    goes_on = learner.resume() and course.spent_before_s > 0
    peak = min(recipe.peak, VAE_GOES_ON) if start.trained else recipe.peak
    peak = learner.notes.get("peak", peak) if goes_on else peak
    learner.notes |= {"peak": peak}
    if decoder_only:
        learner.notes.setdefault("scale", start.model.config.scaling_factor)
        model.load_state_dict(learner.weights())  # else the encoder's average would go on moving towards its weights
    for part in (model.encoder, model.quant_conv):
        part.requires_grad_(not decoder_only)
    return learner, peak


def _loss(model: Any, x: torch.Tensor, on: Machine) -> tuple[torch.Tensor, torch.Tensor]:
    """`vae_loss` of what comes back from a noisy sample of the posterior."""
    with on.amp():
        posterior = model.encode(x).latent_dist
        mean, logvar = posterior.mean, posterior.logvar.clamp(-30, 20)
        y = model.decode(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)).sample
    return vae_loss(y.float(), x, mean.float(), logvar.float())


def _told(learner: Learner, loss: torch.Tensor, error: float, batch: int, course: Course) -> Event:
    speed = learner.steps * batch / max(1e-9, course.spent_s() - course.spent_before_s)
    numbers: dict[str, float | list[float]] = {
        "loss": float(loss.detach()),
        "psnr": _psnr(error),
        "samples_per_s": speed,
    }
    return Event(stage="vae", text="", step=learner.step, numbers=numbers)


def _finish(
    work: Work, learner: Learner, course: Course, pictures: NDArray[np.uint8], on: Machine, *, decoder_only: bool
) -> float:
    """Settle on the averaged weights: measure them, write the last state, draw the samples; PSNR of unseen scenes."""
    learner.model.load_state_dict(learner.weights())
    learner.model.eval()
    scale = {} if decoder_only else {"scale": latent_scale(learner.model, pictures, on)}
    unseen = _unseen(work, learner.model, pictures, on)
    learner.save(course, **scale)
    return unseen


def _batch(
    pictures: NDArray[np.uint8], batch: int, rng: np.random.Generator, on: Machine, *, cropped: bool
) -> torch.Tensor:
    """A batch without unseen scenes; crops lie where subjects stand, on the latents' grid."""
    rows = np.sort(rng.integers(0, len(pictures) - _n_unseen(pictures), batch))  # sorted: read from disk in order
    x = to_pixels(pictures[rows], on)
    if not cropped:
        return x
    top, left = 8 * int(rng.integers(3, 9)), 8 * int(rng.integers(0, 9))
    return x[..., top : top + 64, left : left + 64].contiguous(memory_format=torch.channels_last)


def _n_unseen(pictures: NDArray[np.uint8]) -> int:
    return min(UNSEEN, len(pictures) // 8)


def _gradient(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def _psnr(square: float) -> float:
    return float(10 * np.log10(4 / square))


@torch.no_grad()
def _unseen(work: Work, model: Any, pictures: NDArray[np.uint8], on: Machine) -> float:
    """PSNR over all pixels of the unseen scenes; twelve of them go to the samples, beside what came back."""
    kept = np.array(pictures[-_n_unseen(pictures) :])
    with on.amp():
        x = to_pixels(kept, on)
        y = model.decode(model.encode(x).latent_dist.mean).sample.float().clamp(-1, 1)
    back = ((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    cells = [(Image.fromarray(a), text) for i in range(12) for a, text in ((kept[i], "before"), (back[i], "after"))]
    work.path("samples").mkdir(exist_ok=True)
    page(cells).save(work.path("samples") / "vae.png")
    return _psnr(float((y - x).square().mean()))
