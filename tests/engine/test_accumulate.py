"""Gradient accumulation, and parts of a step in several processes."""

from __future__ import annotations

import pytest
import torch
from engine_samples import job

from cnsctl.concept import Mode
from cnsctl.engine import neurons
from cnsctl.engine.processes import Processes
from cnsctl.engine.trainer import Trainer


def gradients(base, mode, processes=None, **settings):
    """Of all trained tensors in one step, and the loss."""
    trainer = Trainer(base, job(base, mode=mode, **settings), *([] if processes is None else [processes]))
    trainer.train_on(neurons.random_neurons(base, budget=0.1, seed=3))
    kept = []
    trainer._update = lambda: kept.extend(
        p.grad.clone() for p in (trainer.values.values, *trainer.vectors.values()) if p.grad is not None
    )
    return kept, trainer.step()


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(("batch", "times"), [(1, 4), (2, 2), (3, 2)])
def test_accumulating_is_a_larger_batch_up_to_the_order_of_addition(tiny, mode, batch, times):
    """The same images, texts, times and noise."""
    (ours, loss), (wanted, larger) = (
        gradients(tiny, mode, batch_size=batch, accumulate=times),
        gradients(tiny, mode, batch_size=batch * times),
    )
    assert loss == pytest.approx(larger, rel=1e-5)
    for a, b in zip(ours, wanted, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-4


def test_the_shares_of_processes_add_up_to_the_step_of_one(tiny, monkeypatch):
    """Also if a process has no image of a step."""
    sent = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: sent.append(flat.clone()))
    wanted, loss = gradients(tiny, Mode.TOKEN, batch_size=2)
    for index in range(3):
        gradients(tiny, Mode.TOKEN, Processes(index=index, count=3), batch_size=2)
    total = sum(sent)
    assert float(total[-1]) == pytest.approx(loss, rel=1e-5)
    flat = torch.cat([g.reshape(-1) for g in (*wanted[1:], wanted[0])])
    assert float((total[:-1] - flat).norm() / flat.norm()) < 1e-4


@pytest.mark.parametrize("n", [0, 1, 5, 7])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_cover_all_items_once_in_order(n, count):
    shares = [Processes(index=i, count=count).share(n) for i in range(count)]
    assert [i for share in shares for i in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
