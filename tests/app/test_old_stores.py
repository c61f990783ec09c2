"""A store holds its base: a newer package never orphans it."""

from __future__ import annotations

import shutil

from commands import at, cnsctl
from tiny import write_facts


def test_an_old_store_draws_the_same_bytes_when_the_packages_weights_are_others(
    package, tiny_v_folder, tmp_path, pictures_of_two
):
    old, new = at(tmp_path / "old"), at(tmp_path / "new")
    done = cnsctl("add", "dog", pictures_of_two / "dog", *old)
    assert done.code == 0, done.err
    assert "made a store" in done.err

    def drawn(store) -> bytes:
        return cnsctl("gen", "a cat", "--seed", 1, "-o", "-", *store).raw

    before = drawn(old)
    shutil.rmtree(package)
    shutil.copytree(tiny_v_folder, package)
    write_facts(package)
    assert drawn(old) == before
    assert cnsctl("verify", *old).code == 0
    assert cnsctl("init", *new).code == 0
    assert drawn(new) != before


def test_no_byte_of_the_stores_base_changes_in_any_run(package, tmp_path, pictures_of_two):
    store = tmp_path / "store"
    assert cnsctl("init", "--mode", "merged", *at(store)).code == 0
    base = {p: p.read_bytes() for p in sorted((store / "base").rglob("*")) if p.is_file()}
    for name in ("dog", "hat"):
        assert cnsctl("add", name, pictures_of_two / name, "--allow-forgetting", *at(store)).code == 0
    assert cnsctl("gen", "<dog> and <hat>", "-o", tmp_path / "x.png", *at(store)).code == 0
    assert cnsctl("rm", "dog", "-y", *at(store)).code == 0
    assert {p: p.read_bytes() for p in sorted((store / "base").rglob("*")) if p.is_file()} == base


def test_a_damaged_embedded_base_is_refused_when_it_is_loaded(package, tmp_path):
    store = at(tmp_path / "store")
    assert cnsctl("init", *store).code == 0
    (file,) = (tmp_path / "store" / "base" / "vae").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(data))
    done = cnsctl("gen", "x", "-o", tmp_path / "x.png", *store)
    assert done.code == 6
    assert "is not the file that was recorded" in done.err
