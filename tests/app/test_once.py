"""Expensive work is done once per command: decoding a file, encoding an image, the class word's denoising error."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from commands import at, cnsctl

from cnsctl.app.session import Session
from cnsctl.bases.loaded import LoadedBase
from cnsctl.data import images as images_module
from cnsctl.engine import denoising_error as errors_module
from cnsctl.engine.overlay import EMPTY


@pytest.fixture
def counted(monkeypatch):
    """Counts: files decoded, images encoded, images given to CLIP, denoising errors with the class word alone."""
    found = SimpleNamespace(decoded=Counter(), encoded=Counter(), seen=Counter(), without=Counter())
    decoded, encode, errors_by_image = images_module.decode, LoadedBase.encode_images, errors_module.errors_by_image

    def counting_decoded(path):
        found.decoded[path.name] += 1
        return decoded(path)

    def counting_encode(self, pixels):
        found.encoded.update(image.tobytes() for image in pixels)
        return encode(self, pixels)

    def counting_error(base, overlay, prompt, latents, *, noise_seed=0):
        if overlay is EMPTY:
            found.without[(prompt.text, noise_seed)] += 1
        return errors_by_image(base, overlay, prompt, latents, noise_seed=noise_seed)

    class Towers:
        backbone = "counted"

        def images(self, pixels):
            found.seen.update(image.tobytes() for image in pixels)
            return np.stack([image.astype(np.float64).mean((0, 1)) + 1 for image in pixels])

        def texts(self, texts):
            return np.ones((len(texts), 3))

    monkeypatch.setattr(images_module, "decode", counting_decoded)
    monkeypatch.setattr(LoadedBase, "encode_images", counting_encode)
    monkeypatch.setattr(errors_module, "errors_by_image", counting_error)
    monkeypatch.setattr(Session, "clip", lambda _self: Towers())
    return found


@pytest.mark.parametrize("holdout", [0, 1])
def test_add_decodes_and_encodes_each_image_once(empty, images, counted, holdout):
    done = cnsctl("add", "rex", images, "--class", "dog", "--steps", 3, "--holdout", holdout, *at(empty))
    assert done.code == 0, done.err
    assert counted.decoded == {"0.png": 1, "1.png": 1, "2.png": 1}
    assert list(counted.encoded.values()) == [1, 1, 1]
    assert list(counted.without.values()) == [1]


def test_score_decodes_each_image_once(empty, images, counted):
    assert cnsctl("score", "rex", images, "--class", "dog", *at(empty)).code == 0
    assert counted.decoded == {"0.png": 1, "1.png": 1, "2.png": 1}


def test_eval_encodes_each_image_once_and_asks_the_class_word_once_per_noise(empty, images, counted):
    assert cnsctl("add", "rex", images, "--class", "dog", "--steps", 3, "--holdout", 1, *at(empty)).code == 0
    for counter in vars(counted).values():
        counter.clear()
    done = cnsctl("eval", "rex", "--json", *at(empty))
    assert done.code == 0, done.err
    assert done.json["concepts"][0]["clip_i_real"] is not None
    assert list(counted.encoded.values()) == [1]
    assert not counted.decoded
    assert sorted(noise for _, noise in counted.without) == [0, 1, 2]
    assert set(counted.without.values()) == {1}
    stored = {image.tobytes() for image in _references(empty)}
    assert len(stored) == 3
    assert [counted.seen[image] for image in stored] == [1, 1, 1]


def _references(store):
    from cnsctl.data.png import png_pixels
    from cnsctl.store import Store

    opened = Store.open(store)
    return [png_pixels(opened.blob(sha)) for sha in opened.concept("rex")["references"]]
