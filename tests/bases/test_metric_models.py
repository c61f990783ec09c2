"""Rules of the models that measure images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_folders import make_clip, make_dino

from cnsctl.bases import metric_models
from cnsctl.errors import BaseModelError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    top = tmp_path_factory.mktemp("metrics")
    return make_clip(top / "clip"), make_dino(top / "dino")


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (40, 40, 3), dtype=np.uint8) for _ in range(3)]


def test_a_stock_clip_gives_the_features_of_its_own_pipeline(folders, pixels):
    from PIL import Image
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    ours = metric_models.StockClip(folders[0], name="clip", device=CPU)
    stock = CLIPModel.from_pretrained(folders[0]).eval()
    processor, tokenizer = AutoImageProcessor.from_pretrained(folders[0]), AutoTokenizer.from_pretrained(folders[0])
    ids = tokenizer(["a dog"], padding="max_length", max_length=16, return_tensors="pt").input_ids
    with torch.no_grad():
        images = stock.get_image_features(**processor(images=[Image.fromarray(p) for p in pixels], return_tensors="pt"))
        texts = stock.get_text_features(input_ids=ids)
    for found, answer in ((ours.images(pixels), images), (ours.texts(["a dog"]), texts)):
        features = getattr(answer, "pooler_output", answer)
        np.testing.assert_allclose(found, (features / features.norm(dim=-1, keepdim=True)).numpy(), atol=1e-5)


def test_the_features_of_a_tower_are_those_of_the_class_token(folders, pixels):
    from PIL import Image
    from transformers import AutoImageProcessor, Dinov2Model

    ours = metric_models.ImageTower(folders[1], name="dino", device=CPU)
    stock = Dinov2Model.from_pretrained(folders[1]).eval()
    given = AutoImageProcessor.from_pretrained(folders[1])(images=Image.fromarray(pixels[0]), return_tensors="pt")
    with torch.no_grad():
        token = stock(**given).last_hidden_state[:, 0]
    np.testing.assert_allclose(ours.images(pixels)[0], (token / token.norm()).numpy()[0], atol=1e-5)


def test_a_fingerprint_is_of_the_weights_and_of_what_is_done_to_an_image(folders, tmp_path):
    import json
    import shutil

    first = metric_models.ImageTower(folders[1], name="a", device=CPU)
    copy = shutil.copytree(folders[1], tmp_path / "copy")
    assert metric_models.ImageTower(copy, name="b", device=CPU).fingerprint == first.fingerprint
    file = copy / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "image_mean": [0.0, 0.0, 0.0]}))
    assert metric_models.ImageTower(copy, name="a", device=CPU).fingerprint != first.fingerprint


def test_another_model_in_the_recorded_folder_is_refused(folders):
    with pytest.raises(BaseModelError, match="another model"):
        metric_models.image_tower(folders[1], name="dino", fingerprint="0" * 64, device=CPU)


def test_a_model_of_another_kind_is_refused(folders, tmp_path, tiny_folder):
    with pytest.raises(BaseModelError, match="not a CLIP"):
        metric_models.StockClip(folders[1], name="dino", device=CPU)
    with pytest.raises(BaseModelError, match="not an image model|cannot load"):
        metric_models.ImageTower(tiny_folder / "text_encoder", name="text", device=CPU)
    with pytest.raises(BaseModelError, match="cannot load"):
        metric_models.ImageTower(tmp_path, name="empty", device=CPU)
