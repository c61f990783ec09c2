"""Rules of the metrics' CLIP."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from tiny import EXAMPLES

from cnsctl.bases.base_folder import POCKET
from cnsctl.bases.clip import towers
from cnsctl.metrics.similarity import clip_i, nearest


def pixels(name: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(p).convert("RGB")) for p in sorted((EXAMPLES / name).glob("*.png"))]


def test_pockets_clip_distinguishes_the_examples():
    clip = towers(POCKET, name="pocket", device=torch.device("cpu"))
    assert clip is not None
    assert clip.backbone == "pocket-clip"
    sets = {name: clip.images(pixels(name)[:3]) for name in ("dog", "hat", "castle")}
    for name in sets:
        assert nearest(clip.images(pixels(name)[3:]), sets) == [name, name]
    assert clip_i(sets["dog"], sets["dog"]) > clip_i(sets["dog"], sets["castle"])


def test_texts_and_images_share_a_space():
    clip = towers(POCKET, name="pocket", device=torch.device("cpu"))
    words = ["a dog on a beach", "a castle in the snow", "a robot in a city"]
    images = clip.images([pixels("dog")[0], pixels("castle")[1], pixels("robot")[3]])
    assert (images @ clip.texts(words).T).argmax(1).tolist() == [0, 1, 2]


def test_a_base_model_without_an_image_encoder_has_no_clip(tiny_folder):
    assert towers(tiny_folder, name="tiny", device=torch.device("cpu")) is None
