"""A store contains a copy of pocket: a newer package with other weights does not change it."""

from __future__ import annotations

import shutil

import pytest
from commands import at, cnsctl
from tiny import write_facts


@pytest.mark.usefixtures("unmeasured")
def test_an_old_store_generates_the_same_bytes_after_the_weights_of_the_package_have_changed(
    package, tiny_v_folder, tmp_path, images_of_two
):
    old, new = at(tmp_path / "old"), at(tmp_path / "new")
    done = cnsctl("add", "dog", images_of_two / "dog", "--steps", 3, *old)
    assert done.code == 0, done.err
    assert "created the store" in done.err

    def generated(store) -> bytes:
        return cnsctl("gen", "a cat", "--seed", 1, "-o", "-", *store).raw

    before = generated(old)
    shutil.rmtree(package)
    shutil.copytree(tiny_v_folder, package)
    write_facts(package)
    assert generated(old) == before
    assert cnsctl("verify", *old).code == 0
    assert cnsctl("init", *new).code == 0
    assert generated(new) != before


@pytest.mark.usefixtures("unmeasured")
def test_the_base_model_in_a_store_never_changes(package, tmp_path, images_of_two):
    store = tmp_path / "store"
    assert cnsctl("init", "--mode", "merged", *at(store)).code == 0
    base = {p: p.read_bytes() for p in sorted((store / "base").rglob("*")) if p.is_file()}
    for name in ("dog", "hat"):
        line = ("add", name, images_of_two / name, "--steps", 3, "--allow-forgetting")
        assert cnsctl(*line, *at(store)).code == 0
    assert cnsctl("gen", "<dog> and <hat>", "-o", tmp_path / "x.png", *at(store)).code == 0
    assert cnsctl("rm", "dog", "-y", *at(store)).code == 0
    assert {p: p.read_bytes() for p in sorted((store / "base").rglob("*")) if p.is_file()} == base


def test_a_damaged_base_model_in_a_store_is_refused_when_it_is_loaded(package, tmp_path):
    store = at(tmp_path / "store")
    assert cnsctl("init", *store).code == 0
    (file,) = (tmp_path / "store" / "base" / "vae").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(data))
    done = cnsctl("gen", "x", "-o", tmp_path / "x.png", *store)
    assert done.code == 6
    assert "vae" in done.err
