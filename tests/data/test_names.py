"""Rules of names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsctl.data.names import check_name, words_of
from cnsctl.errors import InvalidNameError


@pytest.mark.parametrize("name", ["dog", "7", "top-hat", "my_dog", "a" * 63, "a-", "0_-"])
def test_an_allowed_name_is_returned_unchanged(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Dog",
        "dog\n",
        "-rf",
        "_dog",
        ".",
        "..",
        "a/b",
        "a\\b",
        "dog:1",
        "a b",
        "*",
        "~",
        "<dog>",
        "@dog",
        "é",
        "a" * 64,
        "a.b",
        "a\x00",
        "٣",
        "�",
    ],
)
def test_every_other_name_is_refused_with_the_rule(name):
    with pytest.raises(InvalidNameError, match="a-z, 0-9") as caught:
        check_name(name)
    assert caught.value.exit_status == 2
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Dog", "dog"),
        ("<dog>", "dog"),
        ("My Dog", "my-dog"),
        ("Café", "cafe"),
        ("-rf", "rf"),
        ("dog!", "dog"),
        ("@dog", "dog"),
    ],
)
def test_the_nearest_allowed_name_is_suggested(name, nearest):
    with pytest.raises(InvalidNameError, match=f"use '{nearest}'"):
        check_name(name)


@given(st.text())
def test_a_suggested_name_is_allowed(name):
    try:
        assert check_name(name) == name
    except InvalidNameError as refused:
        if (suggested := re.fullmatch("use '(.*)'", refused.hint)) is not None:
            check_name(suggested[1])


def test_a_message_shows_a_long_name_in_part():
    with pytest.raises(InvalidNameError) as caught:
        check_name("x" * 10_000)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "words"), [("dog", "dog"), ("top-hat", "top hat"), ("my_top--hat_", "my top hat"), ("0-", "0")]
)
def test_hyphens_and_underscores_of_a_name_are_spaces(name, words):
    assert words_of(name) == words
