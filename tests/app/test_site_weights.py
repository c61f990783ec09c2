"""K and V of a base model's files, read without loading the model; the base model is checked before."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from commands import at, cnsctl
from safetensors.torch import load_file, save_file
from synthetic_stores import make_store
from tiny import make_base

from cnsctl import open_store
from cnsctl.app import site_weights
from cnsctl.app.site_weights import opened_weights
from cnsctl.bases import base_folder, registry
from cnsctl.errors import BaseModelError, StoreDamagedError

pytestmark = pytest.mark.slow


def as_loaded(folder):
    return registry.load(base_folder.open_folder(folder), device=torch.device("cpu"), dtype=torch.float32).sites


def test_a_single_file_gives_the_weights_of_its_folder_and_a_checkpoint_in_its_precision(single, tmp_path):
    folder, file = single("sdxl")
    store = make_store(tmp_path / "store", file, dog="dog")
    with opened_weights(store) as weights:
        for site, W in as_loaded(folder).items():
            np.testing.assert_array_equal(weights.before(site), W.numpy())
    done = cnsctl("export", "dog", "--format", "checkpoint", "-o", tmp_path / "out", *at(store.path))
    assert done.code == 0, done.err
    sites, delta = as_loaded(tmp_path / "out"), store.delta(store.concept("dog"))
    for site, at_ in delta.indices.items():
        np.testing.assert_array_equal(sites[site].reshape(-1).numpy()[at_], delta.values[site].astype(np.float32))
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        tensors = load_file(tmp_path / "out" / f"{part}.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    for config in (tmp_path / "out").rglob("*.json"):
        assert str(tmp_path) not in config.read_text(encoding="utf-8"), "a path of this machine"


def test_a_base_model_that_has_changed_is_refused(tmp_path):
    base = make_base(tmp_path / "base")
    store = make_store(tmp_path / "store", base, dog="dog")
    assert cnsctl("export", "dog", "--format", "kv", "-o", tmp_path / "a", *at(store.path)).code == 0
    file = base / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors[f"{next(iter(store.base.sites))}.weight"] += 0.1
    save_file(tensors, file)
    for form in ("kv", "checkpoint", "lora"):
        done = cnsctl("export", "dog", "--format", form, "-o", tmp_path / "b", *at(store.path))
        assert done.code == 1
        assert "another base model" in done.err
    assert not (tmp_path / "b").exists()
    shutil.rmtree(base)
    for form, code in (("native", 0), ("bundle", 0), ("kv", 1)):
        assert cnsctl("export", "dog", "--format", form, "-o", tmp_path / "c", *at(store.path)).code == code


@pytest.mark.parametrize(("copy", "error"), [(False, BaseModelError), (True, StoreDamagedError)])
@pytest.mark.parametrize("part", ["header", "numbers"])
def test_a_damaged_file_is_named_as_the_base_models(tmp_path, monkeypatch, copy, error, part):
    base = make_base(tmp_path / "base")
    store = make_store(tmp_path / "store", base, copy=copy, dog="dog")
    file = (store.path / "base" if copy else base) / "unet" / "diffusion_pytorch_model.safetensors"
    monkeypatch.setattr(site_weights, "check_base", lambda _: None)  # it was checked, and is damaged meanwhile
    file.chmod(0o644)
    if part == "header":
        file.write_bytes(b"\1" + file.read_bytes()[1:])
    else:
        save_file({name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(file).items()}, file)
    with pytest.raises(error, match="cannot use the base model: .* is damaged"), opened_weights(store) as weights:
        weights.before(next(iter(store.base.sites)))


def test_a_store_with_a_damaged_copy_of_its_base_model_is_refused(tmp_path):
    store = open_store(make_store(tmp_path / "store", make_base(tmp_path / "base"), copy=True, dog="dog").path)
    file = store.path / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    done = cnsctl("export", "dog", "--format", "diff", "-o", tmp_path / "out", *at(store.path))
    assert (done.code, (tmp_path / "out").exists()) == (6, False)
