"""Training all sites as one matrix equals training each by itself, in fewer than ten operations."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from engine_samples import job, overlay, synthetic
from torch.utils._python_dispatch import TorchDispatchMode

from cnsctl.concept import Mode
from cnsctl.engine import neurons, train
from cnsctl.engine.optim import IndexedValues
from cnsctl.engine.prompt_tokens import features
from cnsctl.engine.trainer import Trainer

HARDLY = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(scope="module", params=["tiny", "tiny_v"])
def base(request):
    return request.getfixturevalue(request.param)


def trainer_of(base, mode, **settings):
    prior = overlay(mode, old=synthetic(base, 9)) if mode is Mode.MERGED else None
    a_job = job(base, mode=mode, **settings, **({} if prior is None else {"prior": prior}))
    return Trainer(base, a_job)


def mixed_up(trainer):
    """Train on a random mask, with values far from their start."""
    trainer.train_on(neurons.random_neurons(trainer.base, budget=0.1, seed=3))
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        trainer.values.values += 0.1 * torch.randn(trainer.values.values.shape, generator=generator).to(
            trainer.base.device
        )
    trainer.values.write_back()


def weights_of(trainer):
    """Per site: the starting weight with the current values, as a leaf of its own."""
    made = {}
    for site, values in trainer.values.by_site().items():
        W = trainer.base.sites[site].clone() if trainer.job.mode is not Mode.MERGED else started(trainer, site)
        W.view(-1)[trainer.values.mask[site]] = values
        made[site] = W.requires_grad_()
    return made


def started(trainer, site):
    old = trainer.job.prior.concepts["old"]
    W = trainer.base.sites[site].clone()
    W.view(-1)[old.indices[site]] = old.values[site]
    return W


def site_by_site(trainer, texts, vectors, weights):
    """K and V with one product per site and text: the definition."""
    base, kv = trainer.base, {site: [] for site in weights}
    for text in texts:
        (X,) = features(base, [text], {trainer.job.name: vectors}).x  # (t, columns)
        own = torch.tensor([[at in text.spans["rex"]] for at in range(base.components.texts.length)], device=X.device)
        for site, W in weights.items():
            trained = F.linear(X, W)
            in_token = torch.where(own, trained, F.linear(X, base.sites[site]))
            kv[site].append(in_token if trainer.job.mode is Mode.TOKEN else trained)
    return {site: torch.stack(rows) for site, rows in kv.items()}


def loss_of(kv):
    """A function in which every number of K and V has another weight."""
    return sum(
        (x.float() * torch.linspace(-1, 1, x.numel(), device=x.device).view(x.shape).sin()).square().sum()
        for x in kv.values()
    )


@pytest.mark.parametrize("mode", list(Mode))
def test_gradients_are_those_of_one_product_per_site(base, mode):
    trainer = trainer_of(base, mode, token_embeddings=2)
    mixed_up(trainer)
    texts = [trainer.texts[0][i] for i in (1, 0, 1, 2)]  # one of them twice

    vectors = {e: v.detach().clone().requires_grad_() for e, v in trainer.vectors.items()}
    weights = weights_of(trainer)
    wanted = site_by_site(trainer, texts, vectors, weights)
    loss_of(wanted).backward()

    found, _ = trainer._keys_values(texts)
    loss_of(found).backward()
    trainer.values.collect_gradient()

    assert list(found) == list(base.sites)
    assert all(torch.allclose(found[s], wanted[s], **HARDLY) for s in base.sites)
    by_site = torch.cat([weights[s].grad.view(-1)[flat] for s, flat in trainer.values.mask.items()])
    scale = by_site.abs().max()
    assert torch.allclose(trainer.values.values.grad / scale, by_site / scale, rtol=1e-3, atol=1e-5)
    for e, v in trainer.vectors.items():
        scale = vectors[e].grad.abs().max()
        assert torch.allclose(v.grad / scale, vectors[e].grad / scale, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mode", list(Mode))
def test_what_is_outside_the_mask_never_changes(base, mode):
    trainer = trainer_of(base, mode)
    before, untouched = trainer.weight.clone(), base.stacked_sites.clone()
    trainer.train_on(neurons.random_neurons(base, budget=0.1, seed=3))
    for _ in range(3):
        trainer.step()
    changed = (trainer.values.weight.detach() != before).view(-1).nonzero().flatten()
    chosen = torch.cat([trainer.values.mask[s] + first for s, first in first_entries(base).items()])
    assert len(changed) > 0
    assert torch.isin(changed, chosen).all()
    assert torch.equal(base.stacked_sites, untouched)


def first_entries(base):
    found, end = {}, 0
    for site, W in base.sites.items():
        found[site] = end
        end += W.numel()
    return found


def test_the_sites_of_a_base_are_the_rows_of_one_matrix(base):
    assert torch.equal(torch.cat(list(base.sites.values())), base.stacked_sites)
    assert all(W._is_view() and W.is_contiguous() for W in base.sites.values())


def test_values_and_masks_do_not_depend_on_the_order_in_which_sites_are_stacked():
    """Or states and deltas would depend on it."""
    generator = torch.Generator().manual_seed(0)
    weights = {"a": torch.randn((3, 4), generator=generator), "b": torch.randn((5, 4), generator=generator)}
    mask = {"a": torch.tensor([1, 11]), "b": torch.tensor([0, 7, 19])}
    ahead = IndexedValues(torch.cat([weights["a"], weights["b"]]), {"a": slice(0, 3), "b": slice(3, 8)}, mask)
    behind = IndexedValues(torch.cat([weights["b"], weights["a"]]), {"b": slice(0, 5), "a": slice(5, 8)}, mask)
    for values in (ahead, behind):
        assert {s: m.tolist() for s, m in values.mask.items()} == {s: m.tolist() for s, m in mask.items()}
        assert all(torch.equal(v, weights[s].view(-1)[mask[s]]) for s, v in values.by_site().items())
    assert torch.equal(ahead.values, behind.values)


@pytest.mark.parametrize("mode", list(Mode))
def test_the_state_names_values_and_a_mask_per_site_in_the_order_of_the_sites(base, mode):
    trainer = trainer_of(base, mode)
    mask = neurons.random_neurons(base, budget=0.1, seed=3)
    trainer.train_on(mask)
    trainer.step()
    tensors = trainer.state("job").tensors
    assert all(torch.equal(tensors[f"mask.{site}"], flat) for site, flat in mask.items())
    assert torch.equal(tensors["values"], torch.cat([trainer.values.by_site()[site] for site in base.sites]))


class Counted(TorchDispatchMode):
    """Counts operations that compute: neither views nor reserved memory."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view and func.namespace == "aten" and "empty" not in func.name():
            self.found[func.name()] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", list(Mode))
def test_training_neurons_takes_fewer_than_ten_operations_more_than_the_token_embedding_alone(base, mode):
    totals = []
    for with_neurons in (False, True):
        trainer = trainer_of(base, mode)
        if with_neurons:
            trainer.train_on(neurons.random_neurons(base, budget=0.1, seed=3))
        with train._deterministic(base.device):
            trainer.step()
            with Counted() as counted:
                trainer.step()
        totals.append(sum(counted.found.values()))
    assert totals[1] - totals[0] < 10
