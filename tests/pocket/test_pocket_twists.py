"""Near misses differ from their caption in one slot, and stay captions of the world."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pocket.judge.prompts import captions_held_out
from pocket.training.twists import near_miss, twisted
from pocket.world.captions import Layout
from pocket.world.colours import NAMES, held_out
from pocket.world.draws import Draws
from pocket.world.scenes import scene
from pocket.world.things import WORDS


def captions(count: int) -> list[str]:
    return [scene(Draws(seed)).caption for seed in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_a_near_miss_is_another_caption(seed):
    for i, text in enumerate(captions(100)):
        if scene(Draws(i)).telling.layout is not Layout.EMPTY:
            assert twisted(text, Draws(1000 * seed + i)) != text


def test_every_slot_is_twisted():
    """Of one caption all kinds of near misses come, and no other ones."""
    text = "a red dog with a blue scarf wearing an orange crown on a beach"
    misses = {twisted(text, Draws(seed)) for seed in range(400)}
    assert "a red dog with a blue scarf on a beach" in misses
    assert "a red dog with a blue scarf and an orange crown on a beach" in misses
    assert "a red dog with blue glasses wearing an orange crown on a beach" in misses
    assert "a red dog with a blue scarf wearing an orange crown at night" in misses
    assert "a red dog with a blue scarf wearing an orange top hat on a beach" in misses
    assert "a green dog with a blue scarf wearing an orange crown on a beach" in misses
    assert "a red elephant with a blue scarf wearing an orange crown on a beach" in misses
    changed = [sum(a not in miss.split() for a in text.split()) for miss in misses]
    assert max(changed) <= 4


def test_an_accent_is_exchanged_for_another_colour():
    misses = {twisted("a rocket with a little red on a beach", Draws(seed)) for seed in range(200)}
    assert "a rocket with a little orange on a beach" in misses
    assert "a castle with a little red on a beach" in misses
    assert "a rocket with a little red at night" in misses


def test_a_near_miss_never_shows_what_is_held_out():
    """As a wrong answer alone it would teach that it is wrong."""
    for i, text in enumerate(captions(300)):
        for k in range(3):
            miss = near_miss(text, Draws(1000 * k + i))
            assert miss not in captions_held_out()
            assert not any(f"{a} and {b} " in miss for a in NAMES for b in NAMES if a != b and held_out(a, b))
    shown = {near_miss("a cactus in a city", Draws(seed)) for seed in range(300)}
    asked = {twisted("a cactus in a city", Draws(seed)) for seed in range(300)} & captions_held_out()
    assert asked, "the caption has a miss that the judge asks for"
    assert not shown & asked


def test_sides_change_places_with_all_that_is_said():
    text = "a picture of a red dog on the left and an owl on the right in a city"
    misses = {twisted(text, Draws(seed)) for seed in range(200)}
    assert "a picture of an owl on the left and a red dog on the right in a city" in misses
    assert "a picture of a red dog in a city" in misses


def test_articles_fit_the_words_after_them():
    for i, text in enumerate(captions(200)):
        words = twisted(text, Draws(i)).split()
        for article, word in pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (word[0] in "aeiou"), words


def test_a_caption_that_has_nothing_to_exchange_stays():
    assert twisted("a sunset", Draws(1)) == "a sunset"
    assert {twisted("a red background", Draws(seed)).split()[1] for seed in range(50)}.isdisjoint({"red", *WORDS})
