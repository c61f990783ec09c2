"""Rules of training on CUDA: `pytest --device cuda`; skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from pocket.training import recipes
from pocket.training.graphs import WARM_UP, Replayed
from pocket.training.learner import Learner

if not torch.cuda.is_available():
    pytest.skip("no CUDA, or no --device cuda", allow_module_level=True)


def learner(tmp_path) -> Learner:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.SiLU(), torch.nn.Linear(32, 8)).cuda()
    return Learner(model, recipes.UNET, path=tmp_path / "state.safetensors", config={}, averaged=True)


def test_a_replayed_step_learns_what_a_launched_one_learns(tmp_path):
    generator = torch.Generator("cuda").manual_seed(0)
    batches = [torch.randn((2, 16, 8), device="cuda", generator=generator) for _ in range(20)]
    launched, recorded = learner(tmp_path), learner(tmp_path)

    def losses(one: Learner):
        def found(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            errors = (one.model(x) - y).square().mean(1)
            return errors.mean(), errors.detach()

        return found

    step = Replayed(losses(recorded), recorded, tuple(batches[0]))
    for _ in range(WARM_UP):  # what the recording did before: its moments, at a rate of nought
        launched.set_rate(0.0)
        launched.descend(losses(launched)(*batches[0])[0])
    for i, (x, y) in enumerate(batches):
        rate = 1e-3 * (i + 1)
        recorded.set_rate(rate)
        replayed = step(x, y).clone()
        loss, errors = losses(launched)(x, y)
        launched.learn(loss, len(x), rate)
        assert torch.allclose(replayed, errors, rtol=1e-4)
    ours, theirs = recorded.model.state_dict(), launched.model.state_dict()
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-4) for key in theirs)
    assert float((theirs["0.weight"] - learner(tmp_path).model.state_dict()["0.weight"]).abs().max()) > 1e-3
