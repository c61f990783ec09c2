"""A store holds its base: a newer package never orphans it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import pytest
from commands import at, cnsctl, tree

from cnsctl.bases import folders, reference


@pytest.fixture
def package(tmp_path, tiny_folder, monkeypatch):
    """A package whose embedded base is a tiny one."""
    embedded = tmp_path / "package" / "pocket"
    shutil.copytree(tiny_folder, embedded)
    monkeypatch.setattr(folders, "POCKET", embedded)
    monkeypatch.setattr(reference, "POCKET_FACTS", embedded.with_name("facts.json"))
    write_facts(embedded)
    return embedded


def write_facts(embedded) -> None:
    known = asdict(reference.facts(embedded, with_files=True))
    embedded.with_name("facts.json").write_text(json.dumps(known))


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
    cnsctl("gen", "<dog> and <hat>", "-o", tmp_path / "x.png", *at(store))
    cnsctl("rm", "dog", "-y", *at(store))
    assert {p: p.read_bytes() for p in sorted((store / "base").rglob("*")) if p.is_file()} == base
    assert tree(store)


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
