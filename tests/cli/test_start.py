"""Rules of starting: a base model is hashed if it may have changed, and by `verify` and `add`; another one is refused."""

from __future__ import annotations

import shutil

import pytest
from commands import at, cnsctl
from safetensors.torch import load_file, save_file

from cnsctl.bases import libraries
from cnsctl.bases.sd1 import adapter


@pytest.fixture
def outside(tiny_folder, tmp_path):
    """A base model outside the store, for this test alone, and a store on it."""
    folder, store = shutil.copytree(tiny_folder, tmp_path / "base"), tmp_path / "store"
    assert cnsctl("init", "--base", folder, *at(store)).code == 0
    return folder, store


@pytest.fixture
def hashed(outside, monkeypatch):
    """Grows with each fingerprint that is computed."""
    computed, honest = [], adapter.fingerprint
    monkeypatch.setattr(adapter, "fingerprint", lambda *a, **k: computed.append(1) or honest(*a, **k))
    return computed


def gen(store, tmp_path):
    return cnsctl("gen", "a", "--steps", 1, "-o", tmp_path / "x.png", "-f", *at(store))


def change(folder, part: str) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    name = min(n for n in tensors if n.endswith(("attn2.to_k.weight", "token_embedding.weight")))
    tensors[name].view(-1)[0] += 1
    save_file(tensors, file, metadata={"format": "pt"})


def test_a_base_model_is_hashed_at_the_first_start_and_not_at_the_next(outside, hashed, tmp_path):
    _, store = outside
    for _ in range(3):
        assert gen(store, tmp_path).code == 0
    assert len(hashed) == 1


def test_verify_and_add_hash_it_again(outside, hashed, tmp_path, images_of_two):
    _, store = outside
    assert cnsctl("add", "dog", images_of_two / "dog", "--steps", 3, "--no-measure", *at(store)).code == 0
    assert cnsctl("verify", *at(store)).code == 0
    assert len(hashed) == 2
    assert gen(store, tmp_path).code == 0
    assert len(hashed) == 2  # they cache what they found


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_changed_base_model_is_hashed_again_and_refused(outside, hashed, tmp_path, part):
    folder, store = outside
    assert gen(store, tmp_path).code == 0
    change(folder, part)
    for _ in range(2):
        done = gen(store, tmp_path)
        assert (done.code, "another base model is at" in done.err) == (1, True)
    assert len(hashed) == 3


def test_a_base_model_whose_file_was_written_again_is_hashed_again(outside, hashed, tmp_path):
    folder, store = outside
    assert gen(store, tmp_path).code == 0
    (file,) = (folder / "unet").glob("*.safetensors")
    file.write_bytes(file.read_bytes())
    assert gen(store, tmp_path).code == 0
    assert len(hashed) == 2


def test_a_base_model_is_hashed_again_with_other_versions_of_the_libraries(outside, hashed, tmp_path, monkeypatch):
    _, store = outside
    assert gen(store, tmp_path).code == 0
    monkeypatch.setattr(libraries, "versions", lambda: {"transformers": "6.0"})
    assert gen(store, tmp_path).code == 0
    assert len(hashed) == 2


def test_a_damaged_or_missing_cache_is_ignored(outside, hashed, tmp_path):
    _, store = outside
    assert gen(store, tmp_path).code == 0
    for file in (store / "cache").glob("base-*"):
        file.write_bytes(b"x")
    assert gen(store, tmp_path).code == 0
    shutil.rmtree(store / "cache")
    assert gen(store, tmp_path).code == 0
    assert len(hashed) == 3
