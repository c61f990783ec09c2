"""The world is what it was: captions exactly, pixels within a level."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from pocket.concepts import DRAWN, LEVELS, concepts, write_concepts
from pocket.examples import EXAMPLES, FIVE, HARDER, write_examples
from pocket.heldout import write_held_out
from pocket.weights import CONTEXT, load_tokenizer
from pocket.world import SIZE, Draws, scene
from pocket.world.captions import Layout, Relation, Said, Telling, caption, phrase
from pocket.world.colours import NAMES, held_out
from pocket.world.looks import ACCESSORIES, PATTERNS, USUAL, Look, look, unseen, usual
from pocket.world.places import EVERYWHERE, HORIZONS, PLACES, background
from pocket.world.scenery import SCENERY
from pocket.world.scenes import Placed, Subject, covered, subject_of
from pocket.world.styles import STYLES
from pocket.world.things import DRESSED, HATS, HEAD, WORDS, drawn, shows_accent, shows_second

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_SEEDS = (47, 50, 59, 46, 24, 3, 22, 56)
"""Of the scenes in scenes.png: all styles, all layouts, a meadow."""


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(float)


def pixels(word: str, its: Look) -> bytes:
    return drawn(word, its, 64).tobytes()


@cache
def shown(seed: int) -> tuple[Telling, tuple[Placed, ...]]:
    """What a scene shows, without its image."""
    one = scene(Draws(seed))
    return one.telling, one.placed


def subjects(scenes: int) -> Iterator[Subject]:
    """Every individual of the first scenes."""
    for seed in range(scenes):
        yield from (placed.subject for placed in shown(seed)[1])


def test_a_seed_gives_its_caption_forever():
    golden = json.loads((GOLDEN / "captions.json").read_text())
    assert {seed: scene(Draws(int(seed))).caption for seed in golden} == golden


@pytest.mark.parametrize(("place", "seed"), list(enumerate(GOLDEN_SEEDS)))
def test_a_seed_gives_its_picture_forever(place, seed):
    with Image.open(GOLDEN / "scenes.png") as sheet:
        golden = sheet.crop((place * SIZE, 0, (place + 1) * SIZE, SIZE)).convert("RGB")
    assert np.abs(levels(scene(Draws(seed)).image) - levels(golden)).mean() <= 1


def test_the_golden_pictures_tell_seeds_apart():
    """The bound of one level is far below what another seed changes."""
    pictures = [levels(scene(Draws(seed)).image) for seed in GOLDEN_SEEDS]
    assert all(np.abs(a - b).mean() > 5 for i, a in enumerate(pictures) for b in pictures[:i])


@pytest.mark.parametrize(("folder", "examples"), [("cnsctl/examples", EXAMPLES), ("benchmarks/harder", HARDER)])
def test_the_examples_are_those_of_the_repository(tmp_path, folder, examples):
    written = [path.relative_to(tmp_path) for path in write_examples(tmp_path, examples)]
    assert {*written} == {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.png")}
    for path in written:
        with Image.open(tmp_path / path) as mine, Image.open(ROOT / folder / path) as theirs:
            assert np.abs(levels(mine) - levels(theirs)).mean() <= 1, path


def test_the_examples_are_plain_dogs_and_hats_and_the_benchmarks_keep_the_harder_ones():
    assert [example.name for example in EXAMPLES] == [example.name for example in FIVE]
    assert FIVE[:2] == HARDER
    assert FIVE[2:] == EXAMPLES[2:]
    for example in EXAMPLES[:2]:
        assert example.subject.look.pattern == "plain"


def test_every_example_has_a_held_out_pair_of_colours():
    for example in (*EXAMPLES, *HARDER):
        assert held_out(example.subject.look.main, example.subject.look.second), example


def test_no_scene_shows_a_pair_of_colours_that_is_held_out():
    pairs = Counter()
    for subject in subjects(400):
        pairs[held_out(subject.look.main, subject.look.second)] += 1
    assert pairs[False] > 400
    assert pairs[True] == 0


def test_unseen_individuals_have_a_held_out_pair():
    looks = [unseen(Draws(seed), "dog") for seed in range(50)]
    assert all(held_out(one.main, one.second) for one in looks)
    assert len({one.pattern for one in looks}) == 4


def test_every_layout_place_and_style_occurs():
    tellings = [shown(seed)[0] for seed in range(500)]
    assert {telling.layout for telling in tellings} == set(Layout)
    assert {telling.place for telling in tellings} == set(EVERYWHERE)
    assert {telling.style for telling in tellings} == {"", *STYLES}


def test_tables_name_the_same_things():
    assert set(USUAL) == set(WORDS)
    assert set(HEAD) == set(DRESSED) < set(WORDS)
    assert set(HATS) < set(WORDS)
    assert set(PLACES.values()) == set(SCENERY)
    assert set(HORIZONS) | {"beach", "sea"} == set(SCENERY)
    assert all(colour in NAMES for colours in USUAL.values() for colour in colours.split())


@pytest.mark.parametrize("word", WORDS)
def test_every_thing_changes_with_colour_pattern_and_proportions(word):
    base = {"main": "red", "second": "blue", "accent": "green", "accessory": None, "shade": (0.0, 0.0, 0.0)}
    plain = Look(pattern="plain", p=(0.0, 0.0, 0.0, 0.0), **base)
    spotted = Look(pattern="spotted", p=(0.0, 0.0, 0.0, 0.0), **base)
    wide = Look(pattern="plain", p=(1.0, 1.0, 1.0, 1.0), **base)
    other = Look(pattern="plain", p=(0.0, 0.0, 0.0, 0.0), **{**base, "main": "yellow"})
    first = drawn(word, plain, 64)
    assert first.size == (64, 64)
    assert first.getbbox() is not None
    assert all(drawn(word, one, 64).tobytes() != first.tobytes() for one in (spotted, wide, other))


@pytest.mark.parametrize("word", WORDS)
def test_a_thing_shows_the_colours_that_its_table_promises(word):
    for pattern in PATTERNS:
        seen = look(Draws(1), word, main="red", second="white", accent="yellow", pattern=pattern)
        other_second, other_accent = replace(seen, second="cyan"), replace(seen, accent="cyan")
        assert (pixels(word, other_second) != pixels(word, seen)) == shows_second(word, pattern), pattern
        assert (pixels(word, other_accent) != pixels(word, seen)) == shows_accent(word, pattern), pattern


def test_a_caption_says_a_colour_exactly_where_it_is_visible_and_not_usual():
    """The caption names main and second colours at will; what it does not name is usual."""
    said_accents = 0
    for subject in subjects(600):
        said, its = subject.said, subject.look
        _, usual_second, usual_accent = usual(said.word, said.main)
        unusual = its.accent != usual_accent and pixels(said.word, its) != pixels(
            said.word, replace(its, accent=usual_accent)
        )
        assert (said.accent is not None) == (unusual or said.accessory is not None), said
        assert its.second in (said.second, usual_second), said
        assert said.second is None or shows_second(said.word, said.pattern), said
        said_accents += unusual and said.accessory is None
    assert said_accents > 20


def test_equal_captions_have_equal_colours():
    colours: dict[str, set[tuple[str, str, str]]] = {}
    count = 0
    for subject in subjects(1000):
        count += 1
        its = subject.look
        colours.setdefault(phrase(subject.said), set()).add((its.main, its.second, its.accent))
    assert len(colours) < 0.7 * count, "too few captions occur twice"
    assert {text: found for text, found in colours.items() if len(found) > 1} == {}


def test_every_caption_fits_the_text_positions():
    """The longest pair is drawn again until its caption fits, and every word is one token."""
    tokenizer = load_tokenizer(ROOT / "cnsctl/bases/pocket/tokenizer")
    left = Said(word="top hat", main="red", second="blue", pattern="striped", accent="pink")
    right = replace(left, word="castle")
    pair = subject_of(left, Draws(1)), subject_of(right, Draws(2))
    place = "on a purple background"
    captions_of_scenes = [
        scene(Draws(seed), layout=Layout.PAIR, place=place, style="", subject=pair[0], second=pair[1]).caption
        for seed in range(20)
    ]
    sides = Telling(layout=Layout.PAIR, place=place, subject=left, second=right, relation=Relation.SIDES)
    assert len(tokenizer(caption(sides)).input_ids) > CONTEXT
    for text in [*captions_of_scenes, *(caption(shown(seed)[0]) for seed in range(200))]:
        assert len(tokenizer(text).input_ids) == len(text.split()) + 2 <= CONTEXT, text


@pytest.mark.parametrize("accessory", ["scarf", "bow tie", "glasses"])
def test_every_dressed_thing_shows_its_accessory(accessory):
    for word in DRESSED:
        bare = look(Draws(1), word, accent="cyan")
        worn = look(Draws(1), word, accent="cyan", accessory=accessory)
        assert drawn(word, bare, 96).tobytes() != drawn(word, worn, 96).tobytes(), word


@pytest.mark.parametrize("place", EVERYWHERE)
def test_a_place_looks_like_itself_from_any_seed_and_unlike_others(place):
    mine = [levels(background(place, Draws(seed))).mean((0, 1)) for seed in range(4)]
    assert max(np.abs(a - b).max() for a in mine for b in mine) < 45
    assert background(place, Draws(0)).size == (SIZE, SIZE)


def test_what_is_given_is_drawn():
    subject = subject_of(Said(word="cat", main="blue"), Draws(1))
    found = scene(Draws(2), layout=Layout.ALONE, place="at night", style="", subject=subject)
    assert found.caption.removeprefix("a picture of ") == "a blue cat at night"
    assert [placed.subject for placed in found.placed] == [subject]


def test_sides_are_said_only_as_they_are():
    left = subject_of(Said(word="cat"), Draws(1))
    right = subject_of(Said(word="car"), Draws(2))
    seen = Counter()
    for seed in range(60):
        found = scene(Draws(seed), layout=Layout.PAIR, subject=left, second=right)
        first, second = found.placed
        assert first.left < second.left
        seen[found.telling.relation, first.subject is left] += 1
    assert seen[Relation.SIDES, True] > 0
    assert seen[Relation.SIDES, False] == 0
    assert seen[Relation.AND, False] > 0


def test_a_hat_sits_on_the_head():
    for word in DRESSED:
        subject = subject_of(Said(word=word), Draws(1))
        hat = subject_of(Said(word="crown"), Draws(2))
        body, worn = scene(Draws(3), layout=Layout.HAT, subject=subject, second=hat).placed
        brim = worn.top + worn.side * 0.9
        head_x, head_y, _ = HEAD[word]
        assert abs(brim - (body.top + head_y * body.side / 100)) <= 1, word
        assert abs(worn.left + worn.side / 2 - (body.left + head_x * body.side / 100)) <= 1, word


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (Said(word="owl"), "an owl"),
        (Said(word="dog", main="orange"), "an orange dog"),
        (Said(word="dog", main="blue", second="red", pattern="striped"), "a blue and red striped dog"),
        (Said(word="cat", accessory="scarf", accent="orange"), "a cat with an orange scarf"),
        (Said(word="cat", accessory="glasses", accent="red"), "a cat with red glasses"),
        (Said(word="car", accent="red"), "a car with a little red"),
    ],
)
def test_a_phrase_says_what_is_not_usual(said, text):
    assert phrase(said) == text


@pytest.mark.parametrize(
    ("telling", "text"),
    [
        (Telling(layout=Layout.EMPTY, place="on a beach"), "a beach"),
        (Telling(layout=Layout.EMPTY, place="at night"), "a night sky"),
        (Telling(layout=Layout.EMPTY, place="at sunset", style="a watercolor of"), "a watercolor of a sunset"),
        (
            Telling(layout=Layout.HAT, place="in a room", subject=Said(word="dog"), second=Said(word="crown")),
            "a dog wearing a crown in a room",
        ),
        (
            Telling(
                layout=Layout.PAIR,
                place="on the moon",
                subject=Said(word="dog"),
                second=Said(word="owl"),
                relation=Relation.SIDES,
                opening="a picture of ",
            ),
            "a picture of a dog on the left and an owl on the right on the moon",
        ),
    ],
)
def test_a_caption_says_layout_and_place(telling, text):
    assert caption(telling) == text


def test_a_bare_word_names_the_usual_individual():
    subject = Subject(said=Said(word="fox"), look=look(Draws(1), "fox"))
    assert (subject.look.main, subject.look.second, subject.look.accent) == ("orange", "white", "blue")
    assert subject.look.pattern == "plain"
    assert subject.look.accessory is None


def test_the_world_has_no_assets():
    assert {path.suffix for path in (ROOT / "pocket/world").iterdir() if path.is_file()} == {".py"}


@pytest.mark.parametrize("layout", [Layout.ALONE, Layout.PAIR, Layout.HAT, Layout.EMPTY])
def test_what_is_covered_is_where_a_scene_differs_from_its_background(layout):
    for seed in range(6):
        shown = scene(Draws(seed), layout=layout, place="on a gray background", style="")
        pixels, mask = levels(shown.image), covered(shown)
        background = pixels[0, 0]
        empty = np.abs(pixels - background).max(-1) < 1
        assert (mask & empty).mean() < 0.01  # parts of a subject that have the background's very colour
        assert (~mask & ~empty).mean() < 0.03  # its antialiased edge
        assert mask.any() == (layout is not Layout.EMPTY)


def test_the_held_out_concepts_are_those_of_the_repository(tmp_path):
    folder = ROOT / "benchmarks/concepts"
    written = [path.relative_to(tmp_path) for path in write_concepts(tmp_path)]
    assert {*written} == {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert json.loads((tmp_path / "concepts.json").read_text()) == json.loads((folder / "concepts.json").read_text())
    for path in written[:-1]:
        with Image.open(tmp_path / path) as mine, Image.open(folder / path) as theirs:
            assert np.abs(levels(mine) - levels(theirs)).mean() <= 1, path


def test_the_held_out_scenes_are_those_of_the_repository(tmp_path):
    folder = ROOT / "benchmarks/heldout"
    written = [path.relative_to(tmp_path) for path in write_held_out(tmp_path)]
    assert {*written} == {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert (tmp_path / "scenes.json").read_text() == (folder / "scenes.json").read_text()
    for path in written[:-1]:
        with Image.open(tmp_path / path) as mine, Image.open(folder / path) as theirs:
            assert np.abs(levels(mine) - levels(theirs)).mean() <= 1, path


def test_held_out_scenes_name_their_concepts():
    for one in json.loads((ROOT / "benchmarks/heldout/scenes.json").read_text()):
        assert re.findall("<([a-z-]+)>", one["caption"]) == list(one["concepts"])
        assert len(one["concepts"]) == (2 if one["kind"] in ("pair", "hat", "sweep-pair") else 1)


def test_no_training_has_seen_what_is_new_in_a_held_out_concept():
    assert len(concepts()) >= 30
    assert [concept.level for concept in concepts()] == sorted((c.level for c in concepts()), key=LEVELS.index)
    for concept, its in DRAWN:
        if concept.level == "colours":
            assert held_out(its.main, its.second), concept
        elif concept.level == "attributes":
            usual_proportions = all(0 <= p < 1 for p in its.p)
            assert its.pattern not in PATTERNS or its.accessory not in (None, *ACCESSORIES) or not usual_proportions
        else:
            assert concept.word not in WORDS


def test_every_pattern_and_accessory_shows():
    """What makes a held-out concept new is seen: without it the drawing is another one."""
    for concept, its in DRAWN:
        if concept.level == "attributes" and concept.new != "proportions":
            plain = Look(**{**{k: getattr(its, k) for k in Look.__slots__}, "pattern": "plain", "accessory": None})
            difference = np.abs(levels(drawn(concept.word, its, 96)) - levels(drawn(concept.word, plain, 96)))
            assert (difference.max(-1) > 40).mean() > 0.004, concept
