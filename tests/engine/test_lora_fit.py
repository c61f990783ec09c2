"""The fitted LoRA: what the algebra promises, and what it does on a base model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from engine_samples import named, overlay, prompt, synthetic
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_sdxl

from cnsctl.bases import base_folder, devices, registry
from cnsctl.concept import Mention, Mode
from cnsctl.data.lora_prompts import calibration_prompts, measured_prompts
from cnsctl.engine.denoising_error import errors_by_image
from cnsctl.engine.feature_moments import Moments, second_moments
from cnsctl.engine.lora_effect import (
    Measured,
    difference,
    error_removed_through,
    errors_through,
    fitted,
)
from cnsctl.engine.lora_fit import RANK, fit, target
from cnsctl.engine.overlay import EMPTY
from cnsctl.engine.prompt_tokens import features
from cnsctl.errors import UsageError
from cnsctl.formats.contents import Factors

sizes = st.fixed_dictionaries(
    {
        "columns": st.integers(3, 9),
        "rows": st.integers(2, 9),
        "tokens": st.integers(1, 3),
        "seed": st.integers(0, 2**16),
    }
)


def features_of(seed: int, tokens: int, columns: int) -> torch.Tensor:
    return torch.randn((tokens, columns), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments_of(own: torch.Tensor, other: torch.Tensor) -> Moments:
    """From features (n, columns); start, end and padding are the same as the other words."""
    C = other.T @ other / len(other)
    return Moments(own={"rex": own.T @ own / len(own)}, words=C, frame=C)


def product(factors: Factors) -> torch.Tensor:
    return torch.from_numpy(factors.up).double() @ torch.from_numpy(factors.down).double()


def objective(D: torch.Tensor, W: torch.Tensor, M: Moments, leak: float) -> float:
    """What a LoRA minimises, without the ridge."""
    E, other = D - W, (M.words + M.frame) / 2
    return float((E @ M.own["rex"] @ E.T).trace() + leak * (D @ other @ D.T).trace())


@given(sizes)
def test_without_leak_every_own_token_reads_the_whole_difference(size):
    own = features_of(size["seed"], size["tokens"], size["columns"])
    W = features_of(size["seed"] + 1, size["rows"], size["columns"])
    other = features_of(size["seed"] + 2, 20, size["columns"])
    found = fit({"rex": W}, target(moments_of(own, other), leak=1e-9, ridge=1e-12), rank=size["columns"])
    assert torch.allclose(product(found) @ own.T, W @ own.T, atol=1e-3 * float(W.norm() * own.norm()))


@given(sizes)
def test_with_a_large_leak_weight_nothing_acts_on_other_tokens(size):
    own, other = (features_of(size["seed"] + i, n, size["columns"]) for i, n in enumerate((size["tokens"], 20)))
    W = features_of(size["seed"] + 2, size["rows"], size["columns"])
    found = fit({"rex": W}, target(moments_of(own, other), leak=1e9), rank=size["columns"])
    assert float((product(found) @ other.T).norm()) <= 1e-3 * float((W @ other.T).norm())


@given(sizes, st.integers(1, 3))
def test_own_tokens_apart_from_all_others_keep_everything_and_leak_nothing(size, apart):
    """Own features and others in orthogonal directions: both aims are reached at once."""
    columns = size["columns"]
    basis = torch.linalg.qr(features_of(size["seed"], columns, columns))[0]
    own, other = basis[:apart], basis[apart:]
    if not len(other):
        return
    W = features_of(size["seed"] + 1, size["rows"], columns)
    D = product(fit({"rex": W}, target(moments_of(own, other), leak=10.0, ridge=1e-10), rank=columns))
    scale = 1e-3 * float(W.norm())
    assert torch.allclose(D @ own.T, W @ own.T, atol=scale)
    assert torch.allclose(D @ other.T, torch.zeros_like(D @ other.T), atol=scale)


@given(sizes, st.integers(1, 4), st.sampled_from([0.1, 1.0, 10.0]))
def test_the_truncation_is_that_in_the_metric_of_the_objective(size, rank, leak):
    """By the definition, with M^½: the SVD of D*·M^½, truncated, and M^-½."""
    own, other = (features_of(size["seed"] + i, n, size["columns"]) for i, n in enumerate((size["tokens"], 20)))
    W, M = features_of(size["seed"] + 2, size["rows"], size["columns"]), moments_of(own, other)
    metric = M.own["rex"] + leak * (M.words + M.frame) / 2
    values, vectors = torch.linalg.eigh(metric)
    back = (vectors * values**-0.5) @ vectors.T
    U, s, Vt = torch.linalg.svd(W @ M.own["rex"] @ back, full_matrices=False)
    expected = (U[:, :rank] * s[:rank]) @ Vt[:rank] @ back
    D = product(fit({"rex": W}, target(M, leak=leak, ridge=1e-12), rank))
    assert objective(D, W, M, leak) == pytest.approx(objective(expected, W, M, leak), rel=1e-4, abs=1e-6)


@given(sizes, st.integers(1, 3))
def test_no_other_lora_of_this_rank_is_better(size, rank):
    own, other = (features_of(size["seed"] + i, n, size["columns"]) for i, n in enumerate((size["tokens"], 20)))
    W, M = features_of(size["seed"] + 2, size["rows"], size["columns"]), moments_of(own, other)
    found = fit({"rex": W}, target(M, leak=1.0, ridge=1e-12), rank)
    best = objective(product(found), W, M, 1.0)
    up, down = torch.from_numpy(found.up).double(), torch.from_numpy(found.down).double()
    for i in range(20):
        near = 10.0 ** -(i % 4)
        noise = (near * features_of(100 + i, *one.shape) for one in (up, down))
        a, b = (one + n for one, n in zip((up, down), noise, strict=True))
        assert best <= objective(a @ b, W, M, 1.0) * (1 + 1e-5) + 1e-6


@given(sizes)
def test_a_higher_rank_is_never_worse(size):
    own, other = (features_of(size["seed"] + i, n, size["columns"]) for i, n in enumerate((size["tokens"], 20)))
    W, M = features_of(size["seed"] + 2, size["rows"], size["columns"]), moments_of(own, other)
    prepared = target(M, leak=1.0, ridge=1e-12)
    errors = [objective(product(fit({"rex": W}, prepared, rank)), W, M, 1.0) for rank in range(1, 5)]
    assert all(b <= a * (1 + 1e-5) + 1e-6 for a, b in pairwise(errors))


def test_a_rank_beyond_the_directions_is_filled_with_zeros():
    own, other = features_of(0, 2, 6), features_of(1, 20, 6)
    prepared = target(moments_of(own, other))
    for W in (features_of(2, 5, 6), torch.zeros(5, 6)):
        found = fit({"rex": W}, prepared, rank=8)
        assert (found.down.shape, found.up.shape) == ((8, 6), (5, 8))
        assert np.isfinite(found.down).all()
        assert np.isfinite(found.up).all()
        assert np.abs(found.up[:, 2:]).max() <= 1e-3 * max(1e-9, np.abs(found.up).max())
    assert not product(found).any(), "no difference, no LoRA"


def test_two_concepts_in_one_file_act_each_on_its_own_tokens():
    basis = torch.linalg.qr(features_of(0, 6, 6))[0]
    own = {"a": basis[:1], "b": basis[1:2]}
    C = basis[2:].T @ basis[2:]
    moments = Moments(own={n: x.T @ x for n, x in own.items()}, words=C, frame=C)
    W = {n: features_of(i, 5, 6) for i, n in enumerate(own)}
    D = product(fit(W, target(moments, ridge=1e-10), rank=2))
    for name, x in own.items():
        assert torch.allclose(D @ x.T, W[name] @ x.T, atol=1e-4)
    assert torch.allclose(D @ basis[2:].T, torch.zeros(5, 4, dtype=torch.float64), atol=1e-4)


def test_moments_are_means_over_own_tokens_other_words_and_the_frame(tiny):
    rex = synthetic(tiny, 1)
    asked = prompt("a ", named("rex"), " in the snow")
    found = second_moments(tiny, {"rex": rex}, [asked])
    text = overlay(Mode.TOKEN, rex=rex).splice(tiny, asked)
    x = features(tiny, [text], {"rex": rex.vectors}).x[0].double().cpu()
    own, real = set(text.spans["rex"]), set(text.tokens.real)
    for C, at in (
        (found.own["rex"], own),
        (found.words, real - own),
        (found.frame, set(range(len(x))) - real),
    ):
        rows = x[sorted(at)]
        assert torch.allclose(C, rows.T @ rows / len(rows))


def test_prompts_in_which_the_concept_does_not_fit_are_left_out(tiny):
    rex = {"rex": synthetic(tiny, 1)}
    fits, long = prompt("a ", named("rex")), prompt("a cat " * 20, named("rex"))
    alone, both = (second_moments(tiny, rex, prompts) for prompts in ([fits], [fits, long]))
    assert torch.equal(alone.own["rex"], both.own["rex"])


def test_a_concept_that_fits_into_no_prompt_is_refused(tiny):
    """Without any of its tokens, every LoRA would seem to keep everything."""
    with pytest.raises(UsageError, match="<rex> fits into none of the prompts"):
        second_moments(tiny, {"rex": synthetic(tiny, 1)}, [prompt("a cat " * 20, named("rex")), prompt("a cat")])


def test_no_measured_prompt_is_a_calibration_prompt():
    fit_on, measure_on = calibration_prompts("rex", "dog"), measured_prompts("rex", "dog")
    assert not {p.text for p in fit_on} & {p.text for p in measure_on}
    for group in (fit_on, measure_on):
        assert any(p.mentions == (Mention(name="rex"),) for p in group)
        assert any(not p.mentions and "dog" in p.text for p in group)
    around = [{p.pieces[i] for p in group if len(p.pieces) == 3} for group in (fit_on, measure_on) for i in (0, 2)]
    assert not around[0] & around[2]
    assert not around[1] & around[3]


@pytest.fixture(scope="module")
def tiny_xl(tmp_path_factory, pytestconfig):
    device, dtype = devices.choose(pytestconfig.getoption("--device"), "fp32")
    folder = make_sdxl(tmp_path_factory.mktemp("bases") / "xl")
    return registry.load(base_folder.open_folder(folder), device=device, dtype=dtype)


@pytest.fixture(scope="module", params=["tiny", "tiny_v", "tiny_xl", "pocket"])
def exported(request):
    """A base model, a concept with random values, and its LoRA."""
    base = request.getfixturevalue(request.param)
    rex = synthetic(base, 1)
    return base, rex, fitted(base, {"rex": rex})


@pytest.mark.slow
def test_a_fitted_lora_keeps_most_of_the_effect_on_own_tokens_and_little_elsewhere(exported):
    base, _, found = exported
    assert found.effect.kept >= 40
    assert found.effect.leak <= found.effect.kept / 6
    assert found.effect.leak_frame <= found.effect.kept / 6
    assert set(found.factors) == set(base.sites)
    assert {len(f.down) for f in found.factors.values()} == {RANK}


def test_storing_the_factors_in_fp16_changes_little(exported):
    base, rex, found = exported
    moments = second_moments(base, {"rex": rex}, measured_prompts("rex", "dog")[::4])
    measured = {dtype: Measured(moments) for dtype in ("f4", "f2")}
    for site, one in found.factors.items():
        for dtype, sums in measured.items():
            stored = Factors(down=one.down.astype(dtype).astype("f4"), up=one.up.astype(dtype).astype("f4"))
            sums.add({"rex": difference(base, rex, site)}, stored)
    exact, rounded = (one.effect() for one in measured.values())
    assert rounded.kept == pytest.approx(exact.kept, abs=0.05)
    assert rounded.leak == pytest.approx(exact.leak, abs=0.05)


def test_the_whole_difference_as_a_file_gives_prompt_mode(tiny):
    """`errors_through` is what another tool does with weights that act on every token."""
    rex, asked = synthetic(tiny, 1), prompt("a ", named("rex"), " in the snow")
    latents = [torch.randn((4, 16, 16), generator=torch.Generator().manual_seed(3))]
    found = list(errors_through(tiny, {"rex": rex}, asked, lambda site: difference(tiny, rex, site), latents))
    ours = list(errors_by_image(tiny, overlay(Mode.PROMPT, rex=rex), asked, latents))
    assert torch.allclose(torch.stack(found), torch.stack(ours), rtol=1e-4)
    plain = prompt("a dog")
    assert torch.equal(
        torch.stack(list(errors_through(tiny, {}, plain, None, latents))),
        torch.stack(list(errors_by_image(tiny, EMPTY, plain, latents))),
    )


def test_error_removed_through_a_file_without_any_change_is_that_of_the_embedding(tiny):
    rex = synthetic(tiny, 1)
    latents = [torch.randn((4, 16, 16), generator=torch.Generator().manual_seed(3))]
    nothing = error_removed_through(tiny, "rex", rex, None, latents)
    zeros = error_removed_through(tiny, "rex", rex, lambda site: torch.zeros_like(tiny.sites[site]), latents)
    assert nothing == pytest.approx(zeros, abs=1e-6)
    assert nothing != 0
