"""Rules of the fixed texts."""

import hashlib
import json

import pytest

from cnsctl.data.prompt_grammar import parse
from cnsctl.data.prompt_templates import (
    base_probe_texts,
    calibration_texts,
    caption_prompt,
    probe_prompts,
    training_texts,
)
from cnsctl.errors import ImageError


def digest(texts):
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def test_the_texts_are_those_of_the_published_results():
    """They determine the selected neurons and the scores: a change makes results incomparable."""
    assert digest(calibration_texts()) == "96903b5e0ce70119"
    assert digest(base_probe_texts()) == "c04a00790347b693"
    assert [p.text for p in training_texts("dog")] == ["<dog>", "a <dog>", "a picture of a <dog>"]
    assert [p.text for p in probe_prompts("dog")] == ["a <dog>", "a <dog> on a beach", "a <dog> in the snow"]


def test_calibration_and_probe_texts_are_different_and_name_no_concept():
    assert len(calibration_texts()) == len(set(calibration_texts())) == 64
    assert len(base_probe_texts()) == len(set(base_probe_texts())) == 10
    for text in calibration_texts() + base_probe_texts():
        assert parse(text, {"dog", "cat", "a"}).pieces == (text,)


def test_calibration_texts_fit_a_small_base_model():
    assert max(len(text.split()) for text in calibration_texts()) <= 8


@pytest.mark.parametrize("texts", [training_texts, probe_prompts])
def test_texts_of_a_concept_follow_the_grammar(texts):
    assert texts("top-hat") == tuple(parse(p.text, {"top-hat"}) for p in texts("top-hat"))


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("my <toto> in the park", "my <toto> in the park"),
        ("<toto> and a dog", "<toto> and a dog"),
        ("<toto> with <toto>", "<toto> with <toto>"),
        ("a dog with a dog", "a <toto> with a dog"),
        ("A Dog.", "A <toto>."),
        ("two dogs, hotdog, dog", "two dogs, hotdog, <toto>"),
        ("dogs in the snow", "<toto>, dogs in the snow"),
        ("in the snow", "<toto>, in the snow"),
        ("a <cat> in the snow", "<toto>, a <cat> in the snow"),
    ],
)
def test_a_caption_names_the_concept_then_its_class_word_then_neither(caption, text):
    prompt = caption_prompt("toto", "dog", caption)
    assert prompt.text == text
    assert prompt.mentions[0].name == "toto"
    assert "".join(p if isinstance(p, str) else f"<{p.name}>" for p in prompt.pieces) == text


def test_a_class_word_of_two_words_is_found_over_any_space():
    assert caption_prompt("hat", "top hat", "a Top  hat on a dog").text == "a <hat> on a dog"
    assert caption_prompt("hat", "c++ (dog)", "a c++ (dog) here").text == "a <hat> here"


def test_a_caption_cannot_give_the_concept_a_scale():
    with pytest.raises(ImageError, match="scale"):
        caption_prompt("dog", "dog", "a <dog:0.5>")
