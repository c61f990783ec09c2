"""Which prompts, images and scores belong together, with a CLIP whose features are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cnsctl.app import evaluate
from cnsctl.data.prompt_templates import probe_prompts
from cnsctl.engine import generate

BEACH, SNOW, OTHER = (np.full((1, 1, 3), i, np.uint8) for i in range(3))
REX = SimpleNamespace(concepts={"rex": SimpleNamespace(class_word="dog")})


class Towers:
    """Features by the number of an image and by the place in a text."""

    backbone = "known"

    def images(self, pixels):
        return np.eye(4)[[int(p[0, 0, 0]) for p in pixels]]

    def texts(self, texts):
        return np.eye(4)[[["a dog on a beach", "a dog in the snow"].index(text) for text in texts]]


SESSION = SimpleNamespace(clip=Towers)
OWN = Towers().images([BEACH, OTHER])


def test_each_image_is_compared_with_its_own_prompt():
    found = evaluate.clip_scores(SESSION, REX, "rex", [BEACH, BEACH, SNOW, SNOW], OWN)
    assert (found.clip_t, found.clip_i, found.backbone) == (1, 0.25, "known")
    swapped = evaluate.clip_scores(SESSION, REX, "rex", [SNOW, SNOW, BEACH, BEACH], OWN)
    assert swapped.clip_t == 0


def test_clip_i_real_compares_held_out_images_with_the_others():
    features = evaluate.clip_features(SESSION, np.stack([BEACH, BEACH, SNOW]))
    assert evaluate.clip_i_real(features, 1) == 0
    assert evaluate.clip_i_real(features, 0) == pytest.approx(1 / 3)
    assert evaluate.clip_i_real(features[:1], 0) is None


def test_probe_images_are_two_places_from_two_seeds(monkeypatch):
    asked = []

    def generate_images(_base, _overlay, requests, _settings):
        asked.extend((request.prompt.text, request.seed) for request in requests)
        return [(request, BEACH) for request in requests]

    monkeypatch.setattr(generate, "generate_images", generate_images)
    session = SimpleNamespace(base=SimpleNamespace(generate_defaults=None))
    assert len(evaluate.probe_images(session, REX, probe_prompts("rex"))) == 4
    beach, snow = "a <rex> on a beach", "a <rex> in the snow"
    assert asked == [(beach, 0), (beach, 1), (snow, 0), (snow, 1)]
