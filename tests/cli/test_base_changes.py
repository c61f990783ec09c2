"""What `verify` says if a part of the base model has changed since concepts were trained."""

from __future__ import annotations

import json
import shutil

import pytest
from commands import at, cnsctl


@pytest.fixture
def trained(tiny_folder, tmp_path, images_of_two):
    """A store with `dog` on a folder of its own, which the test may change."""
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    store = at(tmp_path / "store")
    assert cnsctl("init", "--base", folder, *store).code == 0
    done = cnsctl("add", "dog", images_of_two / "dog", "--no-measure", *store)
    assert done.code == 0, done.err
    return folder, store


def test_another_decoder_is_named_and_no_concept_is_called_forgotten(trained):
    from safetensors.torch import load_file, save_file

    folder, store = trained
    (file,) = (folder / "vae").glob("*.safetensors")
    save_file({name: W * 1.01 for name, W in load_file(file).items()}, file, metadata={"format": "pt"})
    done = cnsctl("verify", *store)
    assert done.code == 7
    assert "unchanged" in done.out
    assert "the base model has changed since concepts were trained: decoder" in done.err
    assert "no concept was forgotten" in done.err
    answer = json.loads(cnsctl("verify", "--json", *store).out.splitlines()[0])
    assert answer["base_changed"] == ["decoder"]
    assert [c["forgotten"] for c in answer["concepts"]] == [False]


def test_another_denoiser_is_a_changed_concept(trained):
    folder, store = trained
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "flip_sin_to_cos": False}))
    done = cnsctl("verify", *store)
    assert done.code == 7
    assert "1 of 1 concepts have changed: dog" in done.err
