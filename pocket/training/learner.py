"""A model that learns: weights, their average, the optimizer and the counts; one file on disk.

Owns a step's mechanics and the state file; must not know losses or data.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pocket.training.work import read_state, write_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pocket.training.course import Course
    from pocket.training.recipes import Recipe

Weights = dict[str, torch.Tensor]


class Learner:
    """Takes steps and saves itself; `steps` counts this run's, `step` and `seen` count all.

    Args:
        model: on its device, in fp32.
        recipe: optimizer settings.
        path: of the state file.
        config: what the model can be built again from.
        averaged: whether an average of the weights is kept.
    """

    def __init__(self, model: Any, recipe: Recipe, *, path: Path, config: dict[str, Any], averaged: bool) -> None:
        self.model = model
        self.recipe = recipe
        self.path = path
        self.config = config
        self.average: Weights | None = average_of(model) if averaged else None
        on_cuda = next(model.parameters()).is_cuda  # there the rate is a tensor, so that a recorded step reads it
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            torch.tensor(recipe.peak, device="cuda") if on_cuda else recipe.peak,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=on_cuda,
        )
        self.step = self.seen = self.steps = 0
        self.notes: dict[str, Any] = {}
        self._saved = time.monotonic()

    @property
    def before(self) -> int:
        """Steps of earlier runs."""
        return self.step - self.steps

    def resume(self) -> bool:
        """Take up the state on disk, if there is one."""
        if not self.path.is_file():
            return False
        tensors, self.notes = read_state(self.path)
        self.take(
            model=_under(tensors, "model."),
            average=_under(tensors, "average.") or None,
            optimizer=_optimizer_state(tensors),
            step=self.notes["step"],
            seen=self.notes["seen"],
        )
        return True

    def take(self, *, model: Weights, average: Weights | None, optimizer: dict[int, Any], step: int, seen: int) -> None:
        """Put a state in, wherever it comes from."""
        self.model.load_state_dict(model)
        if self.average is not None:
            self.average = average_of(self.model)
            for key, value in (average or {}).items():
                self.average[key].copy_(value)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": optimizer, "param_groups": groups})
        self.step, self.seen = step, seen

    def learn(self, loss: torch.Tensor, samples: int, rate: float) -> None:
        """One step along the gradient of a loss."""
        self.set_rate(rate)
        self.descend(loss)
        self.count(samples)

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def descend(self, loss: torch.Tensor) -> None:
        """What a step computes, and nothing else: it can be recorded."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def count(self, samples: int) -> None:
        self.step, self.steps, self.seen = self.step + 1, self.steps + 1, self.seen + samples

    def follow(self, decay: float) -> None:
        """Move the average towards the weights."""
        if self.average is not None:
            follow_(self.average, self.model, decay)

    def save(self, course: Course, **notes: Any) -> None:
        """Write everything that the next run needs."""
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in (self.average or {}).items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{key}": torch.as_tensor(value) for key, value in state.items()}
        self.notes |= {"config": self.config, "step": self.step, "seen": self.seen, "spent_s": course.spent_s()}
        self.notes |= notes
        write_state(self.path, tensors, self.notes)
        self._saved = time.monotonic()

    @contextmanager
    def kept(self, course: Course) -> Iterator[None]:
        """Write the state if what is inside is broken off, by Ctrl-C, SIGTERM or a caller who wants no more."""
        try:
            yield
        except (KeyboardInterrupt, GeneratorExit):
            self.save(course)
            raise

    def save_due(self) -> bool:
        return time.monotonic() - self._saved > self.recipe.save_s

    def weights(self) -> Weights:
        """The weights to use: the average where one is kept."""
        return self.model.state_dict() if self.average is None else self.average


def best_weights(path: Path) -> tuple[Weights, dict[str, Any]]:
    """The weights to use from a state file, and its notes."""
    tensors, notes = read_state(path)
    return _under(tensors, "average.") or _under(tensors, "model."), notes


def average_of(model: Any) -> Weights:
    return {key: value.detach().clone().float() for key, value in model.state_dict().items()}


@torch.no_grad()
def follow_(average: Weights, model: Any, decay: float) -> None:
    """Average ← decay · average + (1 − decay) · weights, in fp32."""
    state: Weights = model.state_dict()
    floating = [key for key, value in state.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[key] for key in floating], [state[key].float() for key in floating], 1 - decay)
    for key in state.keys() - set(floating):
        average[key].copy_(state[key])


def _under(tensors: Weights, prefix: str) -> Weights:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _optimizer_state(tensors: Weights) -> dict[int, Any]:
    state: dict[int, Any] = {}
    for key, value in _under(tensors, "optimizer.").items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    return state
