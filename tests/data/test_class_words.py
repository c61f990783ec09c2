"""Rules of names that are their own class word."""

from __future__ import annotations

import json

import pytest

from cnsctl.bases.base_folder import POCKET
from cnsctl.bases.clip_tokenizer import SMALL, unknown_words
from cnsctl.data import class_words
from cnsctl.data.class_words import uncommon_word


@pytest.mark.parametrize(
    "words",
    [
        "dog", "cat", "labradoodle", "top hat", "teddy bear", "red car", "cats", "coffee mug", "wooden toy train",
        "golden retriever", "watercolor", "person", "castle", "stuffed animal", "oil painting", "glasses",
    ],
)  # fmt: skip
def test_a_common_noun_is_its_own_class_word(words):
    assert uncommon_word(words) is None


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        ("luna", "luna"), ("rex", "rex"), ("sks", "sks"), ("ohwx", "ohwx"), ("luna dog", "luna"), ("dog 1", "1"),
        ("dog2", "dog2"), ("red", "red"), ("dog red", "red"), ("", ""), ("the", "the"), ("s", "s"),
    ],
)  # fmt: skip
def test_another_name_is_not_and_the_word_is_named(words, unknown):
    """`luna`, `rex` and `sks` are single tokens of CLIP, and mean nothing of a kind."""
    assert uncommon_word(words) == unknown


def test_the_list_contains_each_word_once_in_the_form_that_names_have():
    from cnsctl.data.names import check_name

    lines = [line for line in class_words.FILE.read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.partition(": ")[2] for line in lines)
    for word in " ".join(line.partition(": ")[2] for line in lines).split():
        assert check_name(word) == word
    assert len(lines) > 10


def test_the_objects_of_pocket_are_common_nouns():
    known = json.loads((POCKET / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]
    objects = [
        "dog",
        "cat",
        "hat",
        "castle",
        "robot",
        "bear",
        "owl",
        "fox",
        "penguin",
        "lion",
        "elephant",
        "rabbit",
        "frog",
        "duck",
        "fish",
        "horse",
        "teapot",
        "lamp",
        "car",
        "boat",
        "house",
        "umbrella",
        "crown",
        "sailboat",
        "rocket",
        "snowman",
        "sunflower",
        "cactus",
        "mushroom",
        "ghost",
        "dinosaur",
    ]
    for word in (word for word in objects if f"{word}</w>" in known):
        assert uncommon_word(word) is None
        assert unknown_words(POCKET, word) == []
    assert unknown_words(POCKET, "top hat") == []
    assert unknown_words(POCKET, "labradoodle") == ["labradoodle"]  # a common noun that pocket cannot read


def test_a_large_vocabulary_reads_every_word(tmp_path):
    """CLIP and T5 were trained on all words, in parts; a small vocabulary contains the words of a small world."""
    (tmp_path / "tokenizer").mkdir()
    vocabulary = {f"part{i}": i for i in range(SMALL)}
    (tmp_path / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    assert unknown_words(tmp_path, "labradoodle") == []
    (tmp_path / "tokenizer" / "vocab.json").write_text(json.dumps({"dog</w>": 0}))
    assert unknown_words(tmp_path, "labradoodle") == ["labradoodle"]
    (tmp_path / "tokenizer" / "spiece.model").write_bytes(b"x")
    assert unknown_words(tmp_path, "labradoodle") == []
