"""Rules of the prompt grammar."""

import re
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsctl.concept import Mention, Prompt
from cnsctl.data.prompt_grammar import bad_character, missed, parse, render_class, slug
from cnsctl.errors import ConceptNotFoundError, UsageError

KNOWN = frozenset({"dog", "cat", "top-hat", "dog-house", "a", "3d_robot"})
DOG = Mention(name="dog")
CAT = Mention(name="cat")


def written(prompt):
    """A prompt in one canonical form, with angles."""

    def one(piece):
        if isinstance(piece, str):
            return piece
        return f"<{piece.name}>" if piece.scale == 1 else f"<{piece.name}:{piece.scale!r}>"

    return "".join(map(one, prompt.pieces))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("<dog>", (DOG,)),
        ("a <dog> on a beach", ("a ", DOG, " on a beach")),
        ("hot<dog>s", ("hot", DOG, "s")),
        ("<dog><cat>", (DOG, CAT)),
        ("<dog> and <dog>", (DOG, " and ", DOG)),
        ("<top-hat>, <3d_robot>", (Mention(name="top-hat"), ", ", Mention(name="3d_robot"))),
        ("<<dog>>", ("<", DOG, ">")),
        ("a <dog:0.8>!", ("a ", Mention(name="dog", scale=0.8), "!")),
        ("<dog:-4> <cat:.5>", (Mention(name="dog", scale=-4.0), " ", Mention(name="cat", scale=0.5))),
        ("<dog:0>", (Mention(name="dog", scale=0.0),)),
        ("<dog:1> <dog> @dog", (DOG, " ", DOG, " ", DOG)),
        ("a\t<dog>", ("a ", DOG)),
        ("", ()),
        (" ", (" ",)),
    ],
)
def test_angles_name_a_concept_anywhere(text, pieces):
    assert parse(text, KNOWN).pieces == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("@dog", (DOG,)),
        ("a @dog, and (@cat)", ("a ", DOG, ", and (", CAT, ")")),
        ("@dog's ball", (DOG, "'s ball")),
        ('"@dog" «@cat»', ('"', DOG, '" «', CAT, "»")),
        ("@dog/@cat", (DOG, "/", CAT)),
        ("@dog.", (DOG, ".")),
        ("@dog-", (DOG, "-")),
        ("@dog-shaped cake", (DOG, "-shaped cake")),
        ("@dog-house", (Mention(name="dog-house"),)),
        ("@dog-house-like", (Mention(name="dog-house"), "-like")),
        ("@dog-Like", (DOG, "-Like")),
        ("@dog:0.8", (Mention(name="dog", scale=0.8),)),
        ("@dog:2. Fine", (Mention(name="dog", scale=2.0), ". Fine")),
        ("@dog:0.8, @cat", (Mention(name="dog", scale=0.8), ", ", CAT)),
        ("@dog: a portrait", (DOG, ": a portrait")),
        ("@dog:cute", (DOG, ":cute")),
    ],
)
def test_at_names_a_known_concept_where_a_word_starts(text, pieces):
    assert parse(text, KNOWN).pieces == pieces


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "I <3 you",
        "I <3 you, not >3",
        "< dog >",
        "<dog >",
        "< dog>",
        "<dog",
        "dog>",
        "<>",
        "<:0.8>",
        "->dog<-",
        "</dog>",
        "<|dog|>",
        "<-dog>",
        "<dog cat>",
        "<a dog>",
        "<note: with spaces>",
        "a@dog",
        "mail a@dog.org",
        "x.@dog",
        "@@dog",
        "<@dog>",
        "@Dog",
        "@dogs",
        "@dogé",
        "@dgo",
        "@ dog",
        "@",
        "@-dog",
        "@" + "d" * 64,
        "user@a-dog",
    ],
)
def test_everything_else_is_text(text):
    assert parse(text, KNOWN).pieces == (text,)


@pytest.mark.parametrize(
    "text", ["a <dgo>", "<Dog>", "<dog's>", "<dog,cat>", "<2>", "<dgo:0.8>", "<dgo:abc>", "<Dögg>"]
)
def test_angles_around_an_unknown_name_are_an_error_not_text(text):
    with pytest.raises(ConceptNotFoundError) as caught:
        parse(text, KNOWN)
    assert caught.value.exit_status == 4
    assert caught.value.reason == "concept-missing"


def test_an_unknown_name_is_reported_with_the_nearest_known_ones():
    with pytest.raises(ConceptNotFoundError, match="concept not found: 'dgo'") as caught:
        parse("a <dgo>", KNOWN)
    assert caught.value.facts["near"] == ["<dog>"]
    with pytest.raises(ConceptNotFoundError) as caught:
        parse("<xylophone>", KNOWN)
    assert caught.value.facts["near"] == []


@pytest.mark.parametrize(
    "mention",
    [
        "<dog:abc>",
        "<dog:>",
        "<dog:nan>",
        "<dog:inf>",
        "<dog:4.01>",
        "<dog:-5>",
        "<dog: 0.8>",
        "<dog:0.8 >",
        "<dog:1_0>",
        "<dog:0,8>",
        "<dog:٣>",
        "<dog:0.8:1>",
        "<dog:1e400>",
        "<dog:a b>",
        "@dog:5",
        "@dog:0.8x",
        "@dog:1.2.3",
        "@dog:+9",
    ],
)
def test_a_scale_that_is_not_a_number_within_four_is_refused(mention):
    with pytest.raises(UsageError, match="scale is out of range"):
        parse(f"a {mention} here", KNOWN)


def test_one_concept_has_one_scale_per_prompt():
    with pytest.raises(UsageError, match=r"two scales: 0\.8 and 1"):
        parse("<dog:0.8> and <dog>", KNOWN)
    assert len(parse("<dog:0.8> and @dog:.80 and <cat:2>", KNOWN).mentions) == 2
    assert written(parse("<dog:-0> <dog:0>", KNOWN)) == "<dog:0.0> <dog:0.0>"


@pytest.mark.parametrize("char", ["\n", "\r", "\r\n", "\v", "\f", "\x85", "\u2028", "\u2029"])
def test_a_line_break_in_a_prompt_is_a_space(char):
    assert parse(f"a{char}<dog>", KNOWN).pieces == ("a ", DOG)
    assert parse(f"a{char}<dog>", KNOWN).text == "a <dog>"


def test_a_byte_order_mark_at_the_beginning_is_dropped():
    assert parse("\ufeffa <dog>", KNOWN).pieces == ("a ", DOG)


@pytest.mark.parametrize("char", ["\0", "\x07", "\x1b", "\x7f", "\ud800", chr(0xDFFF)])
def test_control_characters_are_refused(char):
    with pytest.raises(UsageError, match=rf"U\+{ord(char):04X} at position 3"):
        parse(f"a {char}", KNOWN)
    assert bad_character(f"a {char}") is not None


def test_all_scripts_and_emoji_are_text():
    text = "une école, 犬, щенок, नमस्ते, 👩‍🚀"
    assert parse(text, KNOWN).pieces == (text,)


def test_a_token_of_the_base_models_own_is_text_and_asked_for_only_if_needed():
    own = frozenset({"<cat-toy>", "<cat-toy>_1", "<cat-toy>_2", "<x>", "zorb"})
    assert parse("a <x> on a beach", KNOWN, lambda: own).pieces == ("a <x> on a beach",)
    assert parse("<dog> and <x>", KNOWN, lambda: own).pieces == (DOG, " and <x>")
    assert parse("<dog>", KNOWN | {"x"}, lambda: pytest.fail("not needed")).pieces == (DOG,)
    with pytest.raises(ConceptNotFoundError):
        parse("<y>", KNOWN, lambda: own)
    with pytest.raises(ConceptNotFoundError):
        parse("<x:0.5>", KNOWN, lambda: own)  # it has no delta to scale
    several = parse("a <cat-toy>, <cat-toy>_1", KNOWN, lambda: own)
    assert several.pieces == ("a <cat-toy> <cat-toy>_1 <cat-toy>_2, <cat-toy>_1",)
    assert several.text == "a <cat-toy>, <cat-toy>_1"


PARTS = st.sampled_from(
    ["<dog>", "@dog", "<cat:0.5>", "@cat:0.5", "<", ">", "@", ":", " ", "-", "a", "dog", "1", ".", "'"]
)


@given(st.lists(PARTS).map("".join))
def test_the_canonical_form_parses_to_the_same_pieces(text):
    try:
        prompt = parse(text, KNOWN)
    except (UsageError, ConceptNotFoundError):
        return
    again = parse(written(prompt), KNOWN)
    assert again.pieces == prompt.pieces
    assert written(again) == written(prompt)


@given(st.text())
def test_without_mentions_a_prompt_is_its_text(text):
    if bad_character(text) is None and not re.search(r"<\w", text):
        expected = text.removeprefix("\ufeff").replace("\t", " ")
        assert "".join(parse(text, frozenset()).pieces) == parse(text, ()).text == expected


@given(st.floats(-4, 4))
def test_every_scale_is_written_and_parsed_unchanged(scale):
    prompt = parse(f"<dog:{scale!r}>", KNOWN)
    assert prompt.mentions[0].scale == scale
    assert parse(written(prompt), KNOWN).pieces == prompt.pieces


def test_a_class_word_replaces_each_concept():
    prompt = parse("a <dog> with @top-hat, and <dog>", KNOWN)
    assert render_class(prompt, {"dog": "dog", "top-hat": "top hat"}) == "a dog with top hat, and dog"
    assert render_class(prompt, {"dog": "owl", "top-hat": "umbrella"}) == "an owl with umbrella, and owl"
    assert render_class(parse("A <dog>, papa <dog>", KNOWN), {"dog": "owl"}) == "An owl, papa owl"
    assert written(prompt) == "a <dog> with <top-hat>, and <dog>"


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("a <dog> on a Beach", "a-_dog_-on-a-beach"),
        ("@dog:0.60's", "_dog+0.6_-s-HASH"),
        ("<dog:-2>", "_dog+-2_"),
        ("  Caf\u00e9 & cr\u00e8me  ", "caf\u00e9-cr\u00e8me-HASH"),
        ("cafe\u0301", "caf\u00e9"),
        ("../../etc/passwd", "etc-passwd-HASH"),
        ("\u732b", "\u732b"),  # a cat
        ("\u72ac\u3001\u6d77\u8fba\u3067\u3002", "\u72ac-\u6d77\u8fba\u3067-HASH"),  # a dog, on the beach
        ("\u041a\u043e\u0442 <dog>", "\u043a\u043e\u0442-_dog_"),
        ("\u0915\u093f\u0924\u093e\u092c", "\u0915\u093f\u0924\u093e\u092c"),  # with vowel signs
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc-\u062e\u0648\u0627\u0647\u0645-HASH"),
        ("", "image"),
        ("---", "image-HASH"),
        ("x" * 60, "x" * 60),
    ],
)
def test_a_slug_is_the_words_of_a_prompt_in_any_script_and_a_hash_of_what_they_leave_out(text, stem):
    assert re.sub("-[0-9a-f]{8}$", "-HASH", slug(parse(text, KNOWN))) == stem


@pytest.mark.parametrize(
    "texts",
    [
        ("\u732b", "\u72ac", "\ud55c\uad6d\uc5b4", "\u05db\u05dc\u05d1", "\u0643\u0644\u0628"),
        ("\U0001f431", "\U0001f436", "\U0001f436\U0001f3fd", "a \U0001f431", "a \U0001f436", "a", "1", "1\ufe0f\u20e3"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\U0001f469\U0001f467"),
        ("x" * 60 + "a", "x" * 60 + "b", "x" * 60, "x" * 61),
        ("\u732b" * 90 + "a", "\u732b" * 90 + "b", "\U00020000" * 60 + "a", "\U00020000" * 60 + "b"),
        ("word " * 12 + "one", "word " * 12 + "two", "word " * 5000 + "one", "word " * 5000 + "two"),
        ("<dog> on a beach", "dog on a beach", "<dog:0.8> on a beach", "<dog:-0.8> on a beach", "_dog_ on a beach"),
        ("a cat, asleep", "a cat asleep", "a cat. asleep", "a cat-asleep", "a-cat asleep", "(a cat) asleep"),
        ("<dog>s", "<dog> s", "<dog>, s", "dogs", "<dog-house>", "<dog>-house", "<dog> house"),
    ],
)
def test_different_prompts_get_different_file_names(texts):
    assert len({slug(parse(text, KNOWN)) for text in texts}) == len(texts)


@pytest.mark.parametrize("same", [("<dog>, a", "@dog,  A", "<dog:1>, a "), ("a\tCat", "a cat", " a  cat")])
def test_case_spaces_and_the_two_ways_to_name_a_concept_give_one_file_name(same):
    assert len({slug(parse(text, KNOWN)) for text in same}) == 1


def test_a_file_name_with_a_hash_is_readable():
    assert re.fullmatch("a-cat-[0-9a-f]{8}", slug(parse("a cat \U0001f431", KNOWN)))
    assert re.fullmatch("image-[0-9a-f]{8}", slug(parse("\U0001f431", KNOWN)))
    assert re.fullmatch("x{51}-[0-9a-f]{8}", slug(parse("x" * 100, KNOWN)))


@given(st.lists(st.one_of(st.text(), st.just(DOG), st.builds(Mention, name=st.just("cat"), scale=st.floats(-4, 4)))))
def test_a_slug_is_short_and_not_empty_and_safe(pieces):
    found = slug(Prompt(text="", pieces=tuple(pieces)))
    assert 1 <= len(found) <= 60
    assert len(found.encode()) <= 200
    assert unicodedata.is_normalized("NFC", found)
    assert all(c in "-_.+" or c.isalnum() or unicodedata.category(c) in ("Mn", "Mc") for c in found)
    assert not found.startswith(("-", "."))
    assert not found.endswith("-")


def test_prompts_and_names_import_neither_numpy_nor_pillow():
    code = "import sys, cnsctl.data.prompt_grammar, cnsctl.data.names, cnsctl.data.prompt_templates, cnsctl.cli.shell, cnsctl.cli.preview\n"
    code += "import cnsctl.data.images, cnsctl.data.png; sys.exit(bool({'numpy', 'PIL', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_only_a_word_with_an_at_that_resembles_a_name_is_reported():
    known = ["dog", "top-hat"]
    assert list(missed("@dgo, @Dog and @top-hut", known)) == [("dgo", "dog"), ("Dog", "dog"), ("top-hut", "top-hat")]
    assert list(missed("@dog @top-hat:0.5 @dog-shaped @home me@dgo <dgo>", known)) == []
    assert list(missed("@dgo", [])) == []
