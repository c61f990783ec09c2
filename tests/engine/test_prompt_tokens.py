"""Rules of splicing."""

from __future__ import annotations

import pytest
import torch
from engine_samples import named, prompt

from cnsctl.bases.protocol import Slot
from cnsctl.engine.prompt_tokens import features, splice
from cnsctl.errors import UsageError

WORDS = "a dog on a beach and a cat in the snow"

DOG = {"rex": Slot(name="rex", class_word="dog", n_vectors=2)}


def test_a_prompt_without_a_concept_has_the_stock_tokenizers_ids(tiny):
    for text in ("a dog on a beach", "", "Unknown-words, in pieces!", "a dog " * 40):
        stock = tiny.components.texts.tokenizer(
            text, padding="max_length", max_length=tiny.components.texts.length, truncation=True
        ).input_ids
        assert list(splice(tiny, prompt(text), {}).tokens.ids["text_encoder"]) == stock


def test_a_concept_is_its_token_embeddings_and_then_its_class_word(tiny):
    spliced = splice(tiny, prompt("a ", named("rex"), " on a beach"), DOG).tokens
    assert spliced.places["text_encoder"] == (2, 3)
    assert spliced.vectors == (("rex", 0), ("rex", 1))
    assert spliced.spans == {"rex": (2, 3, 4)}
    assert list(spliced.ids["text_encoder"][4:8]) == tiny.components.texts._ids("dog on a beach")
    assert spliced.real == (1, 2, 3, 4, 5, 6, 7)


def test_words_that_do_not_fit_are_reported_and_a_concept_that_does_not_fit_is_an_error(tiny_v):
    long = "one two three four five six seven eight nine ten red blue green dog"
    spliced = splice(tiny_v, prompt(long), {}).tokens
    assert len(spliced.real) == tiny_v.components.texts.length - 2
    assert spliced.lost
    assert long.replace(" ", "").endswith(spliced.lost.replace(" ", ""))
    with pytest.raises(UsageError, match="<rex> does not fit"):
        splice(tiny_v, prompt(long + " ", named("rex")), DOG)


def test_token_embeddings_are_at_their_places_and_the_table_does_not_change(tiny):
    before = tiny.embeddings(WORDS)["text_encoder"]
    spliced = splice(tiny, prompt(named("rex"), " here"), DOG)
    seen = []
    hook = tiny.components.texts.modules[0].embeddings.position_embedding.register_forward_hook(lambda *_: None)
    hook.remove()
    table = tiny.components.texts.modules[0].get_input_embeddings()
    vectors = {"rex": {"text_encoder": torch.randn(2, tiny.vector_widths["text_encoder"], device=tiny.device)}}
    watch = tiny.components.texts.modules[0].encoder.register_forward_pre_hook(
        lambda _m, _a, kw: seen.append(kw["inputs_embeds"].clone()), with_kwargs=True
    )
    with torch.no_grad():
        features(tiny, [spliced], vectors)
    watch.remove()
    positions = tiny.components.texts.modules[0].embeddings.position_embedding.weight
    assert torch.equal(seen[0][0, 1:3], vectors["rex"]["text_encoder"] + positions[1:3])
    assert torch.equal(before, tiny.embeddings(WORDS)["text_encoder"])
    assert not table._forward_hooks


def test_the_gradient_reaches_the_token_embeddings(tiny):
    vectors = torch.zeros((2, tiny.vector_widths["text_encoder"]), device=tiny.device, requires_grad=True)
    X = features(tiny, [splice(tiny, prompt(named("rex")), DOG)], {"rex": {"text_encoder": vectors}})
    X.x.square().sum().backward()
    assert vectors.grad is not None
    assert float(vectors.grad.abs().min(dim=0).values.max()) > 0
