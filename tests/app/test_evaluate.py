"""Which prompts, images and scores belong together, with a CLIP whose features are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cnsctl.app import probes
from cnsctl.app.measuring import FULL, LEVELS, NO_IMAGES, PREVIEW, QUICK

BEACH, SNOW, OTHER = (np.full((1, 1, 3), i, np.uint8) for i in range(3))
REX = SimpleNamespace(concepts={"rex": SimpleNamespace(class_word="dog")})


class Towers:
    """Features by the number of an image and by the place in a text."""

    backbone = "known"

    def images(self, pixels):
        return np.eye(4)[[int(p[0, 0, 0]) for p in pixels]]

    def texts(self, texts):
        return np.eye(4)[[["a dog on a beach", "a dog in the snow"].index(text) for text in texts]]


OWN = Towers().images([BEACH, OTHER])
TEXTS = [probes.class_prompt(REX, p).text for p, _ in probes.probes("rex", FULL)]


def test_each_image_is_compared_with_its_own_prompt():
    found = probes.clip_scores(Towers(), TEXTS, [BEACH, BEACH, SNOW, SNOW], OWN)
    assert (found.clip_t, found.clip_i, found.backbone) == (1, 0.25, "known")
    swapped = probes.clip_scores(Towers(), TEXTS, [SNOW, SNOW, BEACH, BEACH], OWN)
    assert swapped.clip_t == 0


def test_clip_i_real_compares_held_out_images_with_the_others():
    features = Towers().images([BEACH, BEACH, SNOW])
    assert probes.clip_i_real(features[2:], features[:2]) == 0
    assert probes.clip_i_real(features) == pytest.approx(1 / 3)
    assert probes.clip_i_real(features[:1]) is None


def test_probe_images_are_two_places_from_two_seeds_and_fewer_at_lower_levels():
    beach, snow = "a <rex> on a beach", "a <rex> in the snow"
    asked = {level: [(p.text, seed) for p, seed in probes.probes("rex", level)] for level in LEVELS.values()}
    assert asked[FULL] == [(beach, 0), (beach, 1), (snow, 0), (snow, 1)]
    assert asked[QUICK] == [(beach, 0), (snow, 0)]
    assert asked[PREVIEW] == [(beach, 0)]
    assert asked[NO_IMAGES] == []
    assert all(len(asked[level]) == level.images for level in asked)
