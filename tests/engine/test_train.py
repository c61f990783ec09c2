"""Rules of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_samples import concept_of, job, overlay, prompt, same_delta, states, synthetic, trained

from cnsctl.api import Run
from cnsctl.concept import Mode
from cnsctl.data.prompt_templates import probe_prompts, training_texts
from cnsctl.engine import neurons, train
from cnsctl.engine.denoising_error import denoising_error
from cnsctl.engine.overlay import EMPTY, text_keys_values
from cnsctl.engine.trainer import Trainer
from cnsctl.errors import NameTakenError
from cnsctl.events import Selected
from cnsctl.settings import Policy


@pytest.fixture(scope="module", params=["tiny", "tiny_v"])
def base(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("mode", list(Mode))
def test_the_same_job_gives_the_same_delta(base, mode):
    assert same_delta(trained(base, job(base, mode=mode)).delta, trained(base, job(base, mode=mode)).delta)


@pytest.mark.parametrize(
    ("done", "expected"), [(1, (1.0, None)), (14, (7.5, None)), (15, (3.0, 13.0)), (300, (50.5, 250.5))]
)
def test_a_smoothed_loss_is_the_mean_of_the_first_third_of_the_steps_and_of_the_last(done, expected):
    assert train.smoothed([float(n) for n in range(1, done + 1)]) == expected


def test_another_seed_gives_another_delta(tiny):
    assert not same_delta(trained(tiny, job(tiny)).delta, trained(tiny, job(tiny, seed=1)).delta)


@pytest.mark.parametrize(
    ("base", "mode"), [("tiny_v", Mode.TOKEN), ("tiny", Mode.PROMPT), ("tiny", Mode.MERGED)], indirect=["base"]
)
def test_training_removes_denoising_error_on_the_training_images(base, mode):
    a_job = job(base, mode=mode, steps=20, batch_size=3, learning_rate=3e-2, token_learning_rate=3e-2)
    store = overlay(mode, rex=concept_of(base, trained(base, a_job).delta))
    rex, dog = probe_prompts("rex")[0], prompt("a dog")
    assert denoising_error(base, store, rex, a_job.latents) < 0.99 * denoising_error(base, EMPTY, dog, a_job.latents)


def test_only_the_mask_and_the_token_embedding_change(base):
    done = trained(base, job(base))
    concept = concept_of(base, done.delta)
    for site, W in base.sites.items():
        assert np.array_equal(done.delta.indices[site], done.selected.mask[site])
        stored = W.view(-1)[concept.indices[site]].half().float()  # rounding does not count as a change
        assert (concept.values[site] != stored).float().mean() > 0.5
    assert done.delta.n_neurons == sum(neurons.site_budget(0.1, *W.shape) for W in base.sites.values())


def test_values_are_rounded_to_fp16_and_finite(base):
    delta = trained(base, job(base)).delta
    for part in (delta.values, delta.vectors):
        assert all(v.dtype == np.float16 and np.isfinite(v).all() for v in part.values())


@pytest.mark.parametrize(
    "change",
    [
        {"latents": torch.zeros(3, 4, 16, 16)},
        {"class_word": "cat"},
        {"mode": Mode.TOKEN},
        {"texts": [training_texts("rex")[:1]] * 3},
        {"prior": "old"},
    ],
)
def test_a_state_belongs_to_everything_that_its_result_depends_on(tiny, change):
    """Above all to the images: an interrupted run with other images must not be resumed."""
    if "prior" in change:
        change = {"prior": overlay(Mode.MERGED, old=synthetic(tiny, 9))}
    here = train.hash_of(tiny, job(tiny))
    assert here == train.hash_of(tiny, job(tiny))
    assert here != train.hash_of(tiny, replace(job(tiny), **change))


@pytest.mark.parametrize("mode", list(Mode))
def test_training_and_generating_use_the_same_keys_and_values(base, mode):
    """Except for the rounding of the stored values."""
    trainer = Trainer(base, job(base, mode=mode))
    trainer.train_on(neurons.random_neurons(base, budget=0.1, seed=3))
    for _ in range(3):
        trainer.step()
    store = overlay(mode, rex=concept_of(base, train._delta(trainer)))
    for text in trainer.texts[0]:
        with torch.no_grad():
            trained, _ = trainer._keys_values([text])
        _, read = text_keys_values(base, store, store.splice(base, text.prompt))
        assert all(torch.allclose(trained[s], read[s], atol=5e-3) for s in base.sites)


def test_a_state_of_another_job_is_refused_and_with_a_damaged_one_training_starts_at_step_zero(tiny):
    a_job = job(tiny, steps=4)
    (state,) = states(tiny, a_job, [2])
    fresh = trained(tiny, a_job).delta
    other = replace(a_job, settings=replace(a_job.settings, learning_rate=2e-2))
    with pytest.raises(NameTakenError, match="learning_rate was 0.01 and is 0.02; it has done 2 steps"):
        Run(train.train(tiny, other, resume=state)).result()
    for broken in (state[:40], state[:-3], b"", state.replace(b'"step"', b'"slip"')):
        last = Run(train.train(tiny, a_job, resume=broken)).result()
        assert same_delta(last.delta, fresh)


def test_score_selects_the_mask_of_train_byte_for_byte(tiny):
    a_job = job(tiny, steps=10)
    *_, scored = train.score(tiny, a_job)
    assert isinstance(scored, Selected)
    done = trained(tiny, a_job)
    assert all(np.array_equal(scored.mask[s], done.delta.indices[s]) for s in scored.mask)


def test_the_score_depends_on_the_images_through_the_trained_token_embedding(tiny):
    *_, cold = train.score(tiny, job(tiny, steps=20, warmup=0.0))
    *_, warm = train.score(tiny, job(tiny, steps=20, warmup=0.5))
    assert any(not np.array_equal(cold.mask[s], warm.mask[s]) for s in cold.mask)


def test_in_prompt_and_token_mode_training_does_not_depend_on_other_concepts(tiny):
    others = {"old": synthetic(tiny, 9).indices}
    for mode in (Mode.PROMPT, Mode.TOKEN):
        alone, beside = (trained(tiny, job(tiny, mode=mode, others=o)) for o in ({}, others))
        assert same_delta(alone.delta, beside.delta)
        assert alone.selected.shared == 0 < beside.selected.shared
        assert beside.selected.shared_random > 0


def test_in_merged_mode_training_starts_from_the_overlay_so_far(tiny):
    old = synthetic(tiny, 9)
    prior = overlay(Mode.MERGED, old=old)
    done = trained(tiny, job(tiny, mode=Mode.MERGED, prior=prior, others={"old": old.indices}, learning_rate=1e-7))
    site = next(iter(tiny.sites))
    shared = np.isin(done.delta.indices[site], old.indices[site].cpu().numpy())
    expected = old.values[site].cpu().numpy()[np.isin(old.indices[site].cpu().numpy(), done.delta.indices[site])]
    assert shared.any()
    assert np.allclose(done.delta.values[site][shared], expected, atol=2e-3)


def test_in_merged_mode_the_pull_keeps_owned_neurons_near_their_values(tiny):
    old = synthetic(tiny, 9, budget=0.5)
    prior = overlay(Mode.MERGED, old=old)

    def moved(weight: float) -> float:
        a_job = job(tiny, mode=Mode.MERGED, prior=prior, others={"old": old.indices}, lambda_prev=weight, steps=12)
        delta = trained(tiny, a_job).delta
        total = 0.0
        for site, flat in delta.indices.items():
            both = np.isin(flat, old.indices[site].cpu().numpy())
            was = old.values[site].cpu().numpy()[np.isin(old.indices[site].cpu().numpy(), flat)]
            total += float(np.abs(delta.values[site][both] - was).sum())
        return total

    assert moved(10.0) < 0.7 * moved(0.0)


def test_policies_act_in_merged_mode_only(tiny):
    old = synthetic(tiny, 9, budget=0.4)
    kwargs = {"others": {"old": old.indices}, "policy": Policy.EXCLUSIVE}
    merged = trained(tiny, job(tiny, mode=Mode.MERGED, prior=overlay(Mode.MERGED, old=old), **kwargs))
    assert merged.selected.shared == 0
    assert trained(tiny, job(tiny, mode=Mode.PROMPT, **kwargs)).selected.shared > 0


def test_several_token_embeddings_differ_after_training(tiny):
    delta = trained(tiny, job(tiny, token_embeddings=3)).delta
    (vectors,) = delta.vectors.values()
    assert vectors.shape[0] == 3
    assert len({v.tobytes() for v in vectors}) == 3
    start = trained(tiny, job(tiny, token_embeddings=3, token_learning_rate=1e-9)).delta.vectors
    assert all((one != first).any() for one, first in zip(vectors, next(iter(start.values())), strict=True))


def test_the_random_control_has_the_same_size_and_another_mask(tiny):
    scored, chance = trained(tiny, job(tiny)), trained(tiny, job(tiny, random_mask=True))
    assert scored.delta.n_neurons == chance.delta.n_neurons
    assert all(not np.array_equal(scored.delta.indices[s], chance.delta.indices[s]) for s in tiny.sites)


def test_every_concept_has_a_random_mask_of_its_own(tiny):
    """Otherwise all random concepts of a store in merged mode would own, and protect, the same neurons."""
    one, other, again = (
        trained(tiny, replace(job(tiny, random_mask=True), name=name, texts=[training_texts(name)] * 3)).delta.indices
        for name in ("dog", "cat", "dog")
    )
    assert all(np.array_equal(one[s], again[s]) for s in tiny.sites)
    shared = sum(len(np.intersect1d(one[s], other[s])) for s in tiny.sites) / sum(map(len, one.values()))
    assert shared < 0.5


def test_training_leaves_no_hook_and_no_gradient_behind(tiny):
    trained(tiny, job(tiny))
    assert not tiny.components.texts.modules[0].get_input_embeddings()._forward_hooks
    assert all(p.grad is None for p in tiny.components.denoiser.parameters())
    assert all(p.grad is None for p in tiny.components.texts.modules[0].parameters())
    assert EMPTY.concepts == {}


def test_a_resumed_run_reports_the_selection_that_was_made(tiny):
    a_job = job(tiny, steps=12, others={"old": synthetic(tiny, 9).indices})
    (state,) = states(tiny, a_job, [10])
    unbroken = trained(tiny, a_job).selected
    last = Run(train.train(tiny, a_job, resume=state)).result()
    assert all(np.array_equal(last.selected.mask[s], last.delta.indices[s]) for s in tiny.sites)
    assert (last.selected.shared, last.selected.shared_random) == (unbroken.shared, unbroken.shared_random)


def test_with_a_flipped_byte_in_the_state_training_starts_at_step_zero(tiny):
    a_job = job(tiny, steps=4)
    (state,) = states(tiny, a_job, [2])
    flipped = state[:-9] + bytes([state[-9] ^ 64]) + state[-8:]
    last = Run(train.train(tiny, a_job, resume=flipped)).result()
    assert same_delta(last.delta, trained(tiny, a_job).delta)


def test_training_leaves_no_copy_of_the_weights_behind(tiny):
    import gc
    import weakref

    from cnsctl.engine.optim import IndexedValues

    alive: list[weakref.ref] = []
    honest = IndexedValues.__init__

    def watched(self, *args):
        alive.append(weakref.ref(self))
        honest(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IndexedValues, "__init__", watched)
        trained(tiny, job(tiny))
    gc.collect()
    assert len(alive) == 1
    assert alive[0]() is None


def test_a_nan_loss_stops_the_run(tiny):
    from cnsctl.errors import CnsctlError

    with pytest.raises(CnsctlError, match="the loss is"):
        trained(tiny, replace(job(tiny), latents=torch.full((3, 4, 16, 16), torch.nan)))


def test_the_result_does_not_depend_on_the_order_of_threads(pocket):
    """On pocket the gradients of gathered rows are so large that several threads add them up."""

    def gradients() -> list[torch.Tensor]:
        """As the optimizers saw them, in fp32: of the token embedding and of the neurons."""
        trainer = Trainer(pocket, job(pocket, batch_size=2))
        trainer.train_on(mask)
        trainer.step()
        assert trainer.value_optimizer is not None
        optimizers = (trainer.value_optimizer, *trainer.vector_optimizers.values())
        return [state["exp_avg"] for optimizer in optimizers for state in optimizer.state.values()]

    mask, before = neurons.random_neurons(pocket, budget=0.1, seed=3), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        once, again = gradients(), gradients()
    finally:
        torch.set_num_threads(before)
    assert len(once) == 2
    assert all(one.abs().max() > 0 and torch.equal(one, other) for one, other in zip(once, again, strict=True))
