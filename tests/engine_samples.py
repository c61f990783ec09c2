"""What engine tests share: prompts, synthetic concepts, short training runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch

from cnsctl.api import Run
from cnsctl.concept import Delta, Mention, Mode, Prompt
from cnsctl.data.prompt_templates import training_texts
from cnsctl.engine import neurons, train
from cnsctl.engine.checkpoint import Checkpoint
from cnsctl.engine.concepts import Concept, to_concept
from cnsctl.engine.generate import Request, generate_images
from cnsctl.engine.job import Job
from cnsctl.engine.overlay import EMPTY, Overlay
from cnsctl.engine.train import Trained
from cnsctl.settings import TrainSettings


def prompt(*pieces: str | Mention) -> Prompt:
    text = "".join(p if isinstance(p, str) else f"<{p.name}>" for p in pieces)
    return Prompt(text=text, pieces=pieces)


def named(name: str, scale: float = 1.0) -> Mention:
    return Mention(name=name, scale=scale)


def synthetic(base, seed: int, *, budget: float = 0.1, word: str = "dog", size: float = 1.0) -> Concept:
    """A concept with random neurons, values and token embeddings."""
    rng = torch.Generator().manual_seed(seed)
    mask = neurons.random_neurons(base, budget=budget, seed=seed)
    noise = {s: torch.randn(len(m), generator=rng).to(m.device) for s, m in mask.items()}
    values = {s: (base.sites[s].view(-1)[m] + size * 0.1 * noise[s]).half().float() for s, m in mask.items()}
    vectors = {e: (0.1 * torch.randn((1, w), generator=rng)).half().float() for e, w in base.vector_widths.items()}
    vectors = {e: v.to(base.device) for e, v in vectors.items()}
    return Concept(class_word=word, vectors=vectors, indices=mask, values=values, key=f"synthetic-{seed}")


def overlay(mode: Mode, **concepts: Concept) -> Overlay:
    return Overlay(mode=mode, concepts=concepts)


def job(
    base,
    *,
    name: str = "rex",
    mode: Mode = Mode.PROMPT,
    prior: Overlay = EMPTY,
    others: Mapping[str, Any] | None = None,
    **settings: Any,
):
    generator = torch.Generator().manual_seed(5)
    channels, side = (8, 16) if base.name == "pocket" else (4, 16)
    chosen = {
        "steps": 6,
        "batch_size": 2,
        "learning_rate": 1e-2,
        "token_learning_rate": 1e-2,
        "budget": 0.1,
        "lambda_prev": 0.0,
        "lambda_base": 0.0,
        **settings,
    }
    return Job(
        name=name,
        class_word="dog",
        latents=torch.randn((3, channels, side, side), generator=generator),
        texts=[training_texts(name)] * 3,
        settings=TrainSettings(**chosen),
        mode=mode,
        prior=prior,
        general={s: torch.zeros_like(W, dtype=torch.bool) for s, W in base.sites.items()},
        owned=neurons.packed(base, (others or {}).values()),
    )


def trained(base, a_job) -> Trained:
    last = Run(train.train(base, a_job)).result()
    assert isinstance(last, Trained)
    return last


def states(base, a_job, stops: Collection[int]) -> list[bytes]:
    """Train to the end; the states of a run that is stopped after each of these steps."""
    checkpoint, found = Checkpoint(), {}
    for _ in train.train(base, a_job, checkpoint=checkpoint):
        if checkpoint.step in stops:
            found[checkpoint.step] = checkpoint.to_bytes()
    return [found[step] for step in stops]


def concept_of(base, delta: Delta, key: str = "trained") -> Concept:
    return to_concept(base, delta, key=key)


def generated(base, an_overlay: Overlay, a_prompt: Prompt, seed: int = 3, **changes: Any) -> np.ndarray:
    from dataclasses import replace

    settings = replace(base.generate_defaults, **{"steps": 2, **changes})
    ((_, pixels),) = generate_images(base, an_overlay, [Request(prompt=a_prompt, seed=seed)], settings)
    return pixels


def same_delta(a: Delta, b: Delta) -> bool:
    return (
        all(np.array_equal(a.indices[s], b.indices[s]) for s in a.indices)
        and all(np.array_equal(a.values[s], b.values[s]) for s in a.values)
        and all(np.array_equal(a.vectors[e], b.vectors[e]) for e in a.vectors)
    )
