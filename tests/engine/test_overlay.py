"""Rules of composing: which deltas act in each mode, on which tokens, and how exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine_samples import generated, job, named, overlay, prompt, synthetic, trained

from cnsctl.bases.attention import BoundAttention
from cnsctl.concept import Mode
from cnsctl.engine.overlay import EMPTY, site_weight, text_keys_values
from cnsctl.engine.proof import misreading

PLAIN = prompt("a cat in the snow")
REX = prompt("a ", named("rex"), " in the snow")
NAMED_MODES = (Mode.PROMPT, Mode.TOKEN)


@pytest.fixture(scope="module", params=["tiny", "tiny_v"])
def base(request):
    return request.getfixturevalue(request.param)


def crowd(base, n: int):
    return {f"c{i}": synthetic(base, 100 + i) for i in range(n)}


@pytest.mark.parametrize("mode", NAMED_MODES)
def test_without_a_concept_in_the_prompt_the_image_is_the_base_models_bit_for_bit(base, mode):
    alone = generated(base, EMPTY, PLAIN)
    assert np.array_equal(alone, generated(base, overlay(mode, **crowd(base, 50)), PLAIN))


@pytest.mark.parametrize("mode", NAMED_MODES)
def test_other_concepts_in_the_store_do_not_change_a_concepts_image(base, mode):
    rex = synthetic(base, 1)
    alone = generated(base, overlay(mode, rex=rex), REX)
    assert np.array_equal(alone, generated(base, overlay(mode, **crowd(base, 5), rex=rex), REX))
    assert not np.array_equal(alone, generated(base, EMPTY, prompt("a dog in the snow")))


def test_in_prompt_mode_all_tokens_read_the_mean_of_the_named_deltas(base):
    a, b = synthetic(base, 1), synthetic(base, 2)
    both = overlay(Mode.PROMPT, a=a, b=b)
    text = both.splice(base, prompt(named("a"), " and ", named("b", 0.5)))
    read, kv = text_keys_values(base, both, text)
    for site, W in base.sites.items():
        dense = W.clone().double().view(-1)
        dense[a.indices[site]] += 0.5 * (a.values[site].double() - W.view(-1)[a.indices[site]].double())
        dense[b.indices[site]] += 0.25 * (b.values[site].double() - W.view(-1)[b.indices[site]].double())
        expected = read.x.double() @ dense.view(W.shape).T
        assert torch.allclose(kv[site].double(), expected, atol=1e-4)


def test_in_prompt_mode_a_concept_at_scale_zero_does_not_share(base):
    a, b = synthetic(base, 1), synthetic(base, 2)
    both = overlay(Mode.PROMPT, a=a, b=b)
    assert both.acting(prompt(named("a"), " and ", named("b", 0.0))) == ((a, 1.0), (b, 0.0))
    assert both.acting(prompt(named("a", 0.0))) == ((a, 0.0),)


def test_in_token_mode_two_concepts_never_read_each_others_deltas(base):
    """Each acts on its own tokens, at its own scale, as often as it is named; the other tokens read the base model."""
    both = overlay(Mode.TOKEN, a=synthetic(base, 1), b=synthetic(base, 2))
    text = both.splice(base, prompt(named("a"), " and ", named("b", 0.5), " and ", named("a")))
    read, kv = text_keys_values(base, both, text)
    X = read.x
    rest = [i for i in range(base.components.texts.length) if i not in {*text.spans["a"], *text.spans["b"]}]
    for site, W in base.sites.items():
        for name, scale in (("a", 1.0), ("b", 0.5)):
            at, own = list(text.spans[name]), [(both.concepts[name], scale)]
            assert torch.allclose(kv[site][0, at], F.linear(X[0, at], site_weight(W, site, own)), atol=1e-5)
            assert not torch.allclose(kv[site][0, at], F.linear(X[0, at], W), atol=1e-3)
        assert torch.allclose(kv[site][0, rest], F.linear(X, W)[0, rest], atol=1e-5)


def test_one_concept_reads_exactly_its_stored_values(base):
    a = synthetic(base, 1)
    for site, W in base.sites.items():
        assert torch.equal(site_weight(W, site, [(a, 1.0)]).view(-1)[a.indices[site]], a.values[site])


def test_in_token_mode_only_a_concepts_own_tokens_read_its_delta(base):
    a = synthetic(base, 1)
    own = overlay(Mode.TOKEN, a=a)
    text = own.splice(base, prompt("the ", named("a"), " there"))
    read, kv = text_keys_values(base, own, text)
    X = read.x
    at = torch.zeros(base.components.texts.length, dtype=torch.bool)
    at[list(text.spans["a"])] = True
    for site, W in base.sites.items():
        assert torch.equal(kv[site][0, ~at], F.linear(X, W)[0, ~at])
        assert torch.allclose(kv[site][0, at], F.linear(X[0, at], site_weight(W, site, [(a, 1.0)])), atol=1e-5)
        assert not torch.allclose(kv[site][0, at], F.linear(X, W)[0, at], atol=1e-3)


def test_in_merged_mode_all_deltas_act_on_every_prompt_and_the_last_owners_value_remains(base):
    a, b = synthetic(base, 1), synthetic(base, 2)
    for site, W in base.sites.items():
        merged = site_weight(W, site, [(a, 1.0), (b, 1.0)], merged=True).view(-1)
        assert torch.equal(merged[b.indices[site]], b.values[site])
        only_a = a.indices[site][~torch.isin(a.indices[site], b.indices[site])]
        assert torch.equal(merged[only_a], a.values[site][~torch.isin(a.indices[site], b.indices[site])])
    stack = overlay(Mode.MERGED, a=a, b=b)
    assert not np.array_equal(generated(base, stack, PLAIN), generated(base, EMPTY, PLAIN))


def test_scale_zero_is_the_base_model_with_the_token_embedding_and_one_is_the_concept(base):
    a = synthetic(base, 1)
    with_a = overlay(Mode.PROMPT, a=a)
    _, none = text_keys_values(base, with_a, with_a.splice(base, prompt(named("a", 0.0))))
    read, whole = text_keys_values(base, with_a, with_a.splice(base, prompt(named("a"))))
    X = read.x
    for site, W in base.sites.items():
        assert torch.allclose(none[site], F.linear(X, W), atol=1e-6)
        assert not torch.allclose(whole[site], F.linear(X, W), atol=1e-3)


def test_generating_and_training_do_not_change_the_base_model(base):
    parts = (base.components.denoiser, base.components.texts.modules[0], base.components.vae)
    state = [{n: p.clone() for n, p in part.named_parameters()} for part in parts]
    sites = {s: W.clone() for s, W in base.sites.items()}
    generated(base, overlay(Mode.MERGED, **crowd(base, 3)), PLAIN)
    generated(base, overlay(Mode.TOKEN, rex=synthetic(base, 1)), REX)
    trained(base, job(base))
    for part, before in zip(parts, state, strict=True):
        assert all(torch.equal(before[n], p) for n, p in part.named_parameters())
    assert all(torch.equal(sites[s], W) for s, W in base.sites.items())


def test_attention_refuses_to_run_without_bound_keys_or_on_another_batch(base):
    text, kv = text_keys_values(base, EMPTY, EMPTY.splice(base, PLAIN))
    with base.bind(kv, text):
        pass
    noisy = torch.zeros((1, 4, 16, 16), device=base.device)
    with pytest.raises(RuntimeError, match="called without text"):
        base.denoise(noisy, torch.tensor([1]))
    with base.bind(kv, text), pytest.raises(RuntimeError, match="K of 1 texts for a batch of 2"):
        base.denoise(noisy.expand(2, -1, -1, -1), torch.tensor([1, 1]))


def test_the_stock_processors_are_installed_again_after_each_call(base):
    stock = [layer.attention.processor for layer in base.layers]
    text, kv = text_keys_values(base, EMPTY, EMPTY.splice(base, PLAIN))
    with base.bind(kv, text):
        assert all(isinstance(layer.attention.processor, BoundAttention) for layer in base.layers)
    with pytest.raises(ZeroDivisionError), base.bind(kv, text):
        raise ZeroDivisionError
    generated(base, EMPTY, PLAIN)
    trained(base, job(base))
    assert all(layer.attention.processor is own for layer, own in zip(base.layers, stock, strict=True))


def test_the_attention_computes_its_formula_with_the_bound_keys_and_values(base):
    a = overlay(Mode.PROMPT, a=synthetic(base, 1))
    text, kv = text_keys_values(base, a, a.splice(base, prompt(named("a"))))
    assert misreading(base, kv, text) < 1e-5
    nan = {site: x.clone() for site, x in kv.items()}
    nan[base.layers[-1].v][0, 0, 0] = torch.nan
    assert misreading(base, nan, text) == float("inf")


def test_a_negative_prompt_reads_only_the_deltas_that_it_names(base):
    from dataclasses import replace

    from cnsctl.engine.generate import Request, generate_images

    a, b = synthetic(base, 1), synthetic(base, 2)
    settings = replace(base.generate_defaults, steps=2)

    def with_negative(an_overlay, negative):
        ((_, pixels),) = generate_images(base, an_overlay, [Request(prompt=REX, seed=1, negative=negative)], settings)
        return pixels

    plain = with_negative(overlay(Mode.PROMPT, rex=a), PLAIN)
    assert np.array_equal(plain, with_negative(overlay(Mode.PROMPT, rex=a, b=b), PLAIN))
    assert not np.array_equal(
        plain, with_negative(overlay(Mode.PROMPT, rex=a, b=b), prompt(named("b"), " in the snow"))
    )
