"""CLIP: pictures and captions into one space, so that the text tower knows what words look like.

Owns its loss and its stage; must not know the denoiser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from pocket.training import models
from pocket.training.events import Event
from pocket.training.learner import Learner
from pocket.training.render import captions, scenes
from pocket.training.twists import near_miss
from pocket.training.vae import to_pixels
from pocket.weights import load_tokenizer, token_ids
from pocket.world.draws import Draws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pocket.machine import Machine
    from pocket.training.course import Course
    from pocket.training.recipes import Recipe
    from pocket.training.work import Work

MISSES = 3
"""Captions per picture that are almost right, beside those of the rest of the batch."""

UNSEEN = 256
"""The last scenes of a set are kept out of training."""


def train_clip(
    work: Work, on: Machine, recipe: Recipe, course: Course, *, small: bool, image_tower_only: bool, seed: int
) -> Iterator[Event]:
    """Train both towers, or go on.

    Args:
        work: the folder.
        on: where to compute.
        recipe: numbers.
        course: time.
        small: a tiny model, if a new one is made.
        image_tower_only: keep the text tower, which the denoiser reads.
        seed: decides new weights and batches.
    """
    torch.manual_seed(seed)  # new weights
    start = models.clip_to_train(work, small=small)
    model = start.model.to(on.device).train()
    learner = Learner(model, recipe, path=work.path(models.CLIP_STATE), config=start.config, averaged=False)
    learner.resume()
    model.text_model.requires_grad_(not image_tower_only)
    pictures, texts, tokenizer = scenes(work), captions(work), load_tokenizer(work.tokenizer())
    ids = token_ids(tokenizer, texts)
    rng = np.random.default_rng([seed, learner.step])
    batch = recipe.batch_gpu if on.is_gpu else recipe.batch
    n_seen = _first_unseen(len(pictures))
    with learner.kept(course):
        while course.goes_on(learner.steps):
            rate = course.rate(learner.steps, peak=recipe.peak, warm=recipe.warm, before=learner.before)
            rows = np.sort(rng.integers(0, n_seen, batch))
            draws = Draws(int(rng.integers(2**40)))
            misses = [near_miss(texts[row], draws) for row in rows for _ in range(MISSES)]
            offered = torch.cat([ids[rows], token_ids(tokenizer, misses)])
            with on.amp():
                seen, read = embed(model, pictures[rows], offered, on)
            same = same_words(ids[rows], offered).to(on.device)
            loss = clip_loss(seen, read, same, model.logit_scale.exp().clamp(max=100))
            learner.learn(loss, batch, rate)
            if learner.steps % recipe.log_every == 0:
                yield _told(learner, loss, batch, course)
            if learner.save_due():
                learner.save(course)
    learner.save(course)
    found = recall(model.eval(), pictures, ids, on)
    yield Event(stage="clip", text="of 256 unseen", step=learner.step, numbers={"recall_at_1": found})


def embed(model: Any, pictures: NDArray[np.uint8], ids: torch.Tensor, on: Machine) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (b, 128, 128, 3) and token ids (n, 32) as unit vectors (b, d) and (n, d), fp32."""
    ids = ids[:, : int((ids != ids[0, -1]).sum(1).max()) + 1]  # what is padding everywhere is not read
    seen = model.visual_projection(model.vision_model(pixel_values=to_pixels(pictures, on)).pooler_output)
    read = model.text_projection(model.text_model(input_ids=ids.to(on.device)).pooler_output)
    return functional.normalize(seen.float(), dim=-1), functional.normalize(read.float(), dim=-1)


def same_words(ids: torch.Tensor, offered: torch.Tensor) -> torch.Tensor:
    """Which of the texts offered are a picture's own words (b, n): each of them is right."""
    return (ids[:, None] == offered[None]).all(-1)


def clip_loss(seen: torch.Tensor, read: torch.Tensor, same: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Cross entropy in both directions.

    Args:
        seen: pictures (b, d).
        read: their captions (b, d), and after them any number of texts that describe no picture of the batch: near
            misses. A picture must tell its caption from all of them.
        same: `same_words` of the captions and all texts (b, n).
        scale: inverse temperature.
    """
    likeness = scale * seen @ read.T
    own = same[:, : len(seen)].float()
    target = same.float() / same.float().sum(1, keepdim=True)
    of_pictures = (target * functional.log_softmax(likeness, 1)).sum(1).mean()
    of_captions = (own.T / own.sum(0)[:, None] * functional.log_softmax(likeness[:, : len(seen)].T, 1)).sum(1).mean()
    return -(of_pictures + of_captions) / 2


@torch.no_grad()
def recall(model: Any, pictures: NDArray[np.uint8], ids: torch.Tensor, on: Machine) -> float:
    """For how many unseen pictures the nearest of their captions is their own."""
    rows = np.arange(_first_unseen(len(pictures)), len(pictures))
    parts = [embed(model, pictures[rows[i : i + 32]], ids[rows[i : i + 32]], on) for i in range(0, len(rows), 32)]
    seen, read = (torch.cat(vectors) for vectors in zip(*parts, strict=True))
    nearest = (seen @ read.T).argmax(1).cpu()
    return float((ids[rows][nearest] == ids[rows]).all(-1).float().mean())


def _told(learner: Learner, loss: torch.Tensor, batch: int, course: Course) -> Event:
    speed = learner.steps * batch / max(1e-9, course.spent_s() - course.spent_before_s)
    numbers: dict[str, float | list[float]] = {"loss": float(loss.detach()), "samples_per_s": speed}
    return Event(stage="clip", text="", step=learner.step, numbers=numbers)


def _first_unseen(count: int) -> int:
    return count - UNSEEN if count > 2 * UNSEEN else count // 2
