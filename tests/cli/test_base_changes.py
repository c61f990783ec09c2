"""What `verify` says if a part of the base model has changed since concepts were trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import at, cnsctl

pytestmark = pytest.mark.slow


@pytest.fixture
def trained(tiny_folder, tmp_path, images_of_two):
    """A store with `dog` on a folder of its own, which the test may change."""
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    store = at(tmp_path / "store")
    assert cnsctl("init", "--base", folder, *store).code == 0
    done = cnsctl("add", "dog", images_of_two / "dog", "--no-measure", "--steps", 2, *store)
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


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("kind", ["scheduler class", "tokenizer", "cnsctl.json", "low bits of the weights"])
def test_whatever_decides_an_image_is_compared_and_named(trained, tmp_path, kind):
    """Each gives other images; the fingerprint covers none of them."""
    folder, store = trained
    if kind == "scheduler class":
        name = "scheduler/scheduler_config.json"
        edit(folder / name, _class_name="DDIMScheduler")
    elif kind == "tokenizer":
        name = "tokenizer/tokenizer_config.json"
        (folder / name).write_text((folder / name).read_text() + "\n")
    elif kind == "cnsctl.json":
        name = "cnsctl.json"
        (folder / name).write_text(json.dumps({"generate": {"guidance_scale": 1.5}}))
    else:
        name = "unet/diffusion_pytorch_model.safetensors"
        data = bytearray((folder / name).read_bytes())
        data[-4] ^= 1  # the last bit of a number in fp32, which fp16 does not have
        (folder / name).write_bytes(bytes(data))
    made = cnsctl("gen", "a cat", "--steps", 1, "-o", tmp_path / "x.png", *store)
    assert made.code == 0, made.err
    assert "files of the base model have changed since the store was created" in made.err
    assert name in made.err
    done = cnsctl("verify", "--json", *store)
    assert done.code == 7
    assert set(done.json["base_changed"]) <= {name, "scheduler"}
    assert done.json["base_changed"]
    assert cnsctl("base", "--at", folder, *store).code == 0, "its owner accepts it"
    assert "have changed" not in cnsctl("gen", "a cat", "--steps", 1, "-o", tmp_path / "y.png", *store).err


def test_a_changed_single_file_is_named_although_its_fingerprint_is_the_same(single, tmp_path):
    file = Path(shutil.copy(single("sd15")[1], tmp_path / "x.safetensors"))
    store = at(tmp_path / "store")
    assert cnsctl("init", "--base", file, *store).code == 0
    data = bytearray(file.read_bytes())
    data[-4] ^= 1
    file.write_bytes(bytes(data))
    made = cnsctl("gen", "a cat", "--steps", 1, "--width", 32, "--height", 32, "-o", tmp_path / "x.png", *store)
    assert "x.safetensors" in made.err
