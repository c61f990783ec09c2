"""Held-out images: never trained on, always measured on."""

from __future__ import annotations

import shutil

import pytest
from commands import at, cnsctl, tree
from tiny import some_images

from cnsctl.store import Store


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """A folder of five images."""
    return some_images("dog", 5, tmp_path_factory.mktemp("images") / "dog")


@pytest.fixture
def first_three(five, tmp_path):
    """The images that are left when two of five are held out."""
    folder = tmp_path / "three"
    folder.mkdir()
    for path in sorted(five.glob("*.png"))[:3]:
        shutil.copy(path, folder)
    return folder


def test_held_out_images_do_not_change_a_bit_of_the_delta(empty, five, first_three):
    added = cnsctl("add", "rex", five, "--class", "dog", "--holdout", 2, "--steps", 3, "--json", *at(empty))
    assert added.code == 0, added.err
    assert cnsctl("add", "dog", first_three, "--steps", 3, *at(empty)).code == 0
    store = Store.open(empty)
    rex, dog = store.concept("rex"), store.concept("dog")
    assert rex["scores"]["error_removed"] != dog["scores"]["error_removed"]
    assert [len(c["references"]) for c in (rex, dog)] == [5, 3]
    scored = cnsctl("score", "dog", five, "--holdout", 2, "--json", *at(empty)).json
    assert scored["mask"] == cnsctl("score", "dog", first_three, "--json", *at(empty)).json["mask"]
    values = [store.delta(c).values for c in (rex, dog)]
    assert all((values[0][site] == values[1][site]).all() for site in values[0])


def test_measured_on_the_images_held_out(empty, five):
    added = cnsctl("add", "-v", "dog", five, "--holdout", 1, "--steps", 3, *at(empty))
    assert added.code == 0, added.err
    assert "training on 4 images: 3 steps" in added.err
    listed = cnsctl("ls", "--json", *at(empty)).json["concepts"][0]
    assert (listed["images"], listed["held_out"]) == (5, 1)
    measured = cnsctl("eval", "--json", "--no-images", *at(empty)).json["concepts"][0]
    assert measured["held_out"] == 1
    assert measured["forgetting"]["error_removed"] == 0
    assert measured["error_removed_spread"] > 0
    assert measured["error_removed"] == listed["scores"]["error_removed"]
    shown = cnsctl("show", "-v", "dog", *at(empty)).out
    assert "on 4 images" in shown
    assert [line.split(":")[0].strip() for line in shown.splitlines()[-5:]] == ["image"] * 4 + ["held out"]
    assert cnsctl("add", "dog", five, "--replace", "--steps", 3, *at(empty)).code == 0
    whole = cnsctl("eval", "--json", "--no-images", *at(empty)).json["concepts"][0]
    assert whole["held_out"] == 0
    assert whole["error_removed"] != measured["error_removed"]


@pytest.mark.parametrize("holdout", [5, 6, -1])
def test_at_least_one_image_is_trained_on(empty, five, holdout):
    before = tree(empty)
    for verb in ("add", "score"):
        done = cnsctl(verb, "dog", five, f"--holdout={holdout}", *at(empty))
        assert (done.code, "--holdout" in done.err) == (2, True), done.err
    assert tree(empty) == before


def test_copies_of_an_image_are_not_counted(empty, images, tmp_path):
    folder = tmp_path / "twins"
    folder.mkdir()
    one = min(images.glob("*.png"))
    for name in ("a", "b"):
        shutil.copy(one, folder / f"{name}.png")
    done = cnsctl("add", "dog", folder, "--holdout", 1, *at(empty))
    assert (done.code, "1 different" in done.err) == (2, True), done.err
    listed = cnsctl("ls", "--json", *at(empty)).json
    assert (listed["concepts"], listed["unfinished"]) == ([], [])
