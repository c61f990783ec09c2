"""Rules of near-duplicates: copies are found, different views are not."""

from itertools import combinations

import numpy as np
import pytest
from image_files import NOISE
from PIL import Image
from tiny import EXAMPLES

from cnsctl.data.near_duplicates import near_duplicates


def views(name):
    return {p.name: np.asarray(Image.open(p).convert("RGB")) for p in sorted((EXAMPLES / name).glob("*.png"))}


@pytest.mark.parametrize("name", ["dog", "hat", "cat", "castle", "robot"])
def test_different_views_of_one_thing_are_not_near_duplicates(name):
    assert near_duplicates(views(name)) == ()


def changed(pixels, how):
    image = Image.fromarray(pixels)
    if how == "smaller":
        return np.asarray(image.resize((96, 96)))
    if how == "brighter":
        return np.clip(pixels.astype(int) + 6, 0, 255).astype(np.uint8)
    return np.asarray(image.crop((1, 1, image.width, image.height)))


@pytest.mark.parametrize("how", ["smaller", "brighter", "shifted"])
def test_a_copy_with_a_small_change_is_named_with_the_first(how):
    shown = views("dog")
    shown["copy.png"] = changed(shown["02.png"], how)
    assert near_duplicates(shown) == (("copy.png", "02.png"),)


def test_flat_images_of_different_colours_are_not_near_duplicates():
    """Their gradients are equal: zero."""
    flat = {str(level): np.full((32, 32, 3), level, np.uint8) for level in (0, 90, 200)}
    assert near_duplicates(flat) == ()
    assert all(near_duplicates({"a": flat[x], "b": flat[y]}) == () for x, y in combinations(flat, 2))


def test_one_image_is_not_compared():
    assert near_duplicates({"a": NOISE}) == ()
