"""Rules of prompts in the syntax of other tools: refused, or explained; never a surprise for a plain prompt."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsctl.data.other_syntax import OPTIONS, found, refuse, unmarked
from cnsctl.data.prompt_grammar import parse
from cnsctl.errors import UsageError
from cnsctl.settings import GenerateSettings, RequestSettings, settings_of, shorthands_of

KNOWN = frozenset({"dog", "top-hat", "lora"})


def kinds(text):
    return [(part.kind, part.text) for part in found(text, KNOWN)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a (red:1.3) car", [("weight", "(red:1.3)")]),
        ("a (red, blue: .8) car", [("weight", "(red, blue: .8)")]),
        ("a ((red)) car", [("weight", "((red))")]),
        ("a {{red}} car", [("weight", "{{red}}")]),
        ("a (red)1.3 car", [("weight", "(red)1.3")]),
        ("a [red] car", [("weight", "[red]")]),
        ("a [red|blue] car", [("alternation", "[red|blue]")]),
        ("a [red:blue:0.5] car", [("editing", "[red:blue:0.5]")]),
        ("a [red:10] car", [("editing", "[red:10]")]),
        ("a {red|blue} car", [("choice", "{red|blue}")]),
        ("a car BREAK a house", [("break", "BREAK")]),
        ("a car AND a house", [("and", "AND")]),
        ("embedding:bad-hands", [("embedding", "embedding:bad-hands")]),
        ("a __colour__ car", [("wildcard", "__colour__")]),
        ("a __styles/old__ car", [("wildcard", "__styles/old__")]),
        ("a dog (brown) on a beach", [("brackets", "(brown)")]),
        ("a {red} car", [("brackets", "{red}")]),
        ("a red++ car", [("weight", "red++")]),
        ("a (red car)--, old", [("weight", ")--")]),
        ("cat.swap(dog)", [("blend", "cat.swap(")]),
        ('("a cat", "a dog").blend(0.5, 0.5)', [("blend", ").blend(")]),
        ("${x=a} car", [("choice", "${x=a}")]),
        (r"saber \(fate\)", [("escape", r"\(")]),
        ("(red:1.2), [a|b] BREAK x", [("weight", "(red:1.2)"), ("alternation", "[a|b]"), ("break", "BREAK")]),
    ],
)
def test_the_syntax_of_other_tools_is_found(text, expected):
    assert kinds(text) == expected
    assert "".join(map(str, parse(text, KNOWN).pieces)) == text  # it is used as words


@pytest.mark.parametrize(
    "text",
    [
        "a dog [1]",
        "at 10:30 in the morning",
        "ratio 16:9",
        "A DOG AND A CAT",
        "sand and stone, breakfast, BREAKFAST",
        "C++ and snake_case",
        "an em dash -- here",
        "--",
        "well--known",
        "a dog --not a cat",
        "my embedding: a list",
        "<dog:0.8> and <top-hat>",
        ":-) and (:",
        "rated 18+, C++, A+",
        "minus -5 degrees, a -n is text",
        "steps: 20 of them",
    ],
)
def test_a_plain_prompt_is_left_alone(text):
    assert kinds(text) == []
    parse(text, KNOWN)


def test_a_weight_or_a_file_of_a_concept_is_written_with_angles():
    (weight,) = found("a (<dog>:1.2)", KNOWN)
    assert weight.why == "write <dog:1.2>"
    (file,) = found("embedding:dog", KNOWN)
    assert file.why == "write <dog>"


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        ("a <lora:dog:0.8> cat", "<dog:0.8>"),
        ("a <LORA:dog> cat", "<dog>"),
        ("a <lora:cat_v1:0.8> cat", None),
        ("<lyco:x:1>", None),
        ("<hypernet:x:1>", None),
        ("<lora:dog:0.8:0.5>", "<dog:0.8>"),
    ],
)
def test_a_file_in_a_prompt_is_refused_with_the_mention_to_write(text, mention):
    with pytest.raises(UsageError, match="is the syntax of another tool") as refused:
        parse(text, KNOWN)
    assert refused.value.facts["mention"] == mention


def test_a_concept_may_be_called_like_a_kind_of_file():
    assert [m.scale for m in parse("<lora:0.8>", KNOWN).mentions] == [0.8]


@pytest.mark.parametrize(
    ("text", "option", "setting"),
    [
        ("<dog> --n bad --w 128", "--n", "negative_prompt"),
        ("a --w 128", "--w", "width"),
        ("a --d 7", "--d", "seed"),
        ("a dog --ar 16:9", "--ar", "size"),
        ("--steps=20 a dog", "--steps", "steps"),
        ("a dog --v 5", "--v", None),
        ("a dog --n", "--n", "negative_prompt"),
        ("a dog -s50 -W512", "-s50", "steps"),
        ("a dog -W 512", "-W 512", "width"),
        ("a dog Negative prompt: bad", "Negative prompt:", "negative_prompt"),
        ("a dog Steps: 20, Sampler: Euler a, CFG scale: 7", "Steps: 20, Sampler", "steps"),
    ],
)
def test_an_option_in_a_prompt_is_refused_with_the_setting_to_use(text, option, setting):
    with pytest.raises(UsageError, match=f"contains an option: {option}$|contains an option: {option};") as refused:
        parse(text, KNOWN)
    assert refused.value.facts["name"] == setting


def test_every_setting_named_for_an_option_exists():
    names = {*settings_of(GenerateSettings), *settings_of(RequestSettings), *shorthands_of(GenerateSettings)}
    assert {name for name in OPTIONS.values() if name is not None} <= names | {"negative_prompt"}


def test_a_name_without_brackets_is_found_as_whole_words():
    assert list(unmarked("a photo of Dog, with a top hat", KNOWN)) == ["dog", "top-hat"]
    assert list(unmarked("dogs and hats", KNOWN)) == []


@given(st.text(alphabet="()[]{}|:.,<>@-_ aAb1\\"))
def test_any_text_is_either_read_or_refused(text):
    list(found(text, KNOWN))
    list(unmarked(text, KNOWN))
    with suppress(UsageError):
        refuse(text, KNOWN)
