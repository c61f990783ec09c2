"""Rules of scoring and selection."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from engine_samples import prompt
from hypothesis import given, settings
from hypothesis import strategies as st

from cnsctl.engine import neurons, row_tops
from cnsctl.engine.prompt_tokens import splice
from cnsctl.errors import CapacityError
from cnsctl.settings import Policy

shapes = st.tuples(st.integers(1, 9), st.integers(1, 23))


@st.composite
def sites(draw):
    rows, columns = draw(shapes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    scores = torch.rand((rows, columns), generator=generator)
    if draw(st.booleans()):  # many ties
        scores = (scores * 3).floor() / 3
    general = torch.rand((rows, columns), generator=generator) < draw(st.sampled_from([0, 0.1, 0.5, 1]))
    owned = torch.rand((rows, columns), generator=generator) < draw(st.sampled_from([0, 0.3, 1]))
    return scores, general, owned, draw(st.sampled_from([0.01, 0.058, 0.1, 0.29, 0.5, 0.57, 1.0]))


@settings(max_examples=60, deadline=None)
@given(sites())
def test_the_budget_is_met_exactly_with_sorted_unique_indices(site):
    scores, general, owned, budget = site
    for policy in (Policy.OVERLAP, Policy.PREFER_FREE):
        mask = neurons.select_neurons(scores, budget=budget, general=general, owned=owned, policy=policy)
        assert len(mask) == max(1, round(Fraction(str(budget)) * scores.numel()))
        assert bool((mask[1:] > mask[:-1]).all())
        assert int(mask[0]) >= 0 and int(mask[-1]) < scores.numel()


@settings(max_examples=50, deadline=None)
@given(sites())
def test_the_strict_mask_is_the_base_neurons_that_are_not_general(site):
    scores, general, _, budget = site
    base_neurons = neurons.select_neurons(scores, budget=budget, general=torch.zeros_like(general))
    mask = neurons.strict_neurons(scores, budget=budget, general=general)
    assert set(mask.tolist()) == {i for i in base_neurons.tolist() if not bool(general.view(-1)[i])}
    assert bool((mask[1:] > mask[:-1]).all())


@pytest.mark.parametrize(
    ("budget", "rows", "columns", "n"), [(0.1, 3, 15, 4), (0.1, 15, 3, 4), (0.29, 10, 10, 29), (0.058, 96, 256, 1425)]
)
def test_a_budget_is_the_decimal_number_as_written(budget, rows, columns, n):
    """In floats 0.1 · 3 · 15 is more than 4.5, and 0.29 · 100 less than 29."""
    assert neurons.site_budget(budget, rows, columns) == n


@settings(max_examples=50, deadline=None)
@given(sites())
def test_a_general_neuron_is_taken_only_if_its_row_has_no_other(site):
    scores, general, _, budget = site
    mask = neurons.select_neurons(scores, budget=budget, general=general)
    taken = torch.zeros(scores.numel(), dtype=torch.bool)
    taken[mask] = True
    taken = taken.view(scores.shape)
    for row in range(len(scores)):
        if bool((taken[row] & general[row]).any()):
            assert bool(taken[row][~general[row]].all())


@settings(max_examples=50, deadline=None)
@given(sites())
def test_each_row_contributes_its_highest_scores_and_rows_differ_by_one_at_most(site):
    scores, _, _, budget = site
    none = torch.zeros(scores.shape, dtype=torch.bool)
    mask = neurons.select_neurons(scores, budget=budget, general=none)
    taken = torch.zeros(scores.numel(), dtype=torch.bool)
    taken[mask] = True
    taken = taken.view(scores.shape)
    counts = taken.sum(1)
    assert int(counts.max() - counts.min()) <= 1
    for row in range(len(scores)):
        if 0 < int(counts[row]) < scores.shape[1]:
            assert float(scores[row][taken[row]].min()) >= float(scores[row][~taken[row]].max())


def test_the_remainder_goes_to_the_rows_whose_next_score_is_relatively_highest():
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0], [40.0, 30.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    mask = neurons.select_neurons(scores, budget=4 / 12, general=torch.zeros(3, 4, dtype=torch.bool))
    # one each, and the second of row 1: 30/70 is more than 3/10 and 1/4
    assert mask.tolist() == [0, 4, 5, 8]


def test_ties_go_to_the_lower_index():
    mask = neurons.select_neurons(torch.ones(2, 5), budget=0.4, general=torch.zeros(2, 5, dtype=torch.bool))
    assert mask.tolist() == [0, 1, 5, 6]


def test_prefer_free_takes_owned_neurons_last_and_exclusive_never():
    scores = torch.tensor([[9.0, 8.0, 7.0, 6.0]])
    owned = torch.tensor([[True, True, False, False]])
    none = torch.zeros(1, 4, dtype=torch.bool)
    pick = lambda policy, budget: neurons.select_neurons(  # noqa: E731
        scores, budget=budget, general=none, owned=owned, policy=policy
    ).tolist()
    assert pick(Policy.OVERLAP, 0.5) == [0, 1]
    assert pick(Policy.PREFER_FREE, 0.5) == [2, 3]
    assert pick(Policy.PREFER_FREE, 0.75) == [0, 2, 3]
    assert pick(Policy.EXCLUSIVE, 0.5) == [2, 3]
    with pytest.raises(CapacityError, match="a site has 2, the budget needs 3"):
        pick(Policy.EXCLUSIVE, 0.75)


def test_exclusive_takes_from_other_rows_what_one_row_lacks():
    owned = torch.tensor([[True, True, True], [False, False, False]])
    none = torch.zeros(2, 3, dtype=torch.bool)
    mask = neurons.select_neurons(torch.ones(2, 3), budget=0.5, general=none, owned=owned, policy=Policy.EXCLUSIVE)
    assert mask.tolist() == [3, 4, 5]


def test_importance_is_weight_times_norm_of_real_tokens_alone(tiny):
    text = splice(tiny, prompt("a dog"), {})
    X = torch.zeros((1, tiny.components.texts.length, 3))
    X[0, 0] = 100  # the start token
    X[0, 1] = torch.tensor([3.0, 0.0, 1.0])
    X[0, 2] = torch.tensor([4.0, 2.0, 0.0])
    X[0, 3:] = 100  # end and padding
    norms = neurons.token_norms(X, [text])
    assert norms.tolist() == [5, 2, 1]
    assert neurons.importance(torch.tensor([[-1.0, 2.0, 0.0]]), norms).tolist() == [[5, 4, 0]]


def test_general_neurons_have_high_scores_for_most_prompts(tiny):
    texts = ["a dog on a beach", "a red car", "a cat in the snow", "the night"]
    found = neurons.general_neurons(tiny, texts)
    site, W = next(iter(tiny.sites.items()))
    top = round(neurons.GENERAL_TOP * W.shape[1])
    counts = torch.zeros_like(W)
    for text in texts:
        spliced = splice(tiny, prompt(text), {})
        from cnsctl.engine.prompt_tokens import features

        S = neurons.importance(W, neurons.token_norms(features(tiny, [spliced], {}).x, [spliced]))
        counts += S.sort(dim=1, descending=True).values[:, top - 1 : top] <= S
    assert torch.equal(found[site], counts >= len(texts) / 2)
    assert 0 < float(found[site].float().mean()) < 0.3


@settings(max_examples=60, deadline=None)
@given(sites(), st.integers(1, 5), st.booleans())
def test_times_on_top_are_counted_as_topk_counts_them(site, n_prompts, half):
    """Bit for bit, with equal values too."""
    scores, _, _, share = site
    W = (scores - 0.5).bfloat16() if half else scores - 0.5
    norms = [scores[i % len(scores)] + i for i in range(n_prompts)]
    top = max(1, round(share * W.shape[1]))
    expected = torch.zeros(W.shape, dtype=torch.int16)
    for norm in norms:
        S = neurons.importance(W, norm)
        expected += S.topk(top, dim=1).values.amin(1, keepdim=True) <= S
    assert torch.equal(row_tops.times_on_top(W, norms, top), expected)


def test_rows_beyond_one_block_are_counted(monkeypatch):
    W = torch.randn((23, 7), generator=torch.Generator().manual_seed(0))
    norms = [W[0].abs(), W[1].abs()]
    whole = row_tops.times_on_top(W, norms, 2)
    monkeypatch.setattr(row_tops, "BLOCK", 21)
    assert torch.equal(row_tops.times_on_top(W, norms, 2), whole)


@settings(max_examples=50, deadline=None)
@given(sites(), st.sampled_from(Policy))
def test_the_columns_of_a_row_come_in_the_order_of_stable_sorts(site, policy):
    scores, general, owned, _ = site
    tier = general.to(torch.int8) + (0 if policy is Policy.OVERLAP else 2 * owned.to(torch.int8))
    by_score = scores.argsort(dim=1, descending=True, stable=True)
    expected = by_score.gather(1, tier.gather(1, by_score).argsort(dim=1, stable=True))
    for first in range(1, scores.shape[1] + 1):
        assert torch.equal(neurons._row_order(scores, tier, first), expected[:, :first])


def test_a_random_mask_has_the_same_size_at_every_site_and_depends_on_its_seed(tiny):
    a, b = (neurons.random_neurons(tiny, budget=0.1, seed=s) for s in (1, 2))
    for site, W in tiny.sites.items():
        assert len(a[site]) == neurons.site_budget(0.1, *W.shape) == len(a[site].unique())
        assert not torch.equal(a[site], b[site])
