"""What `export` writes, `import` reads: the same concept, in another store on the same base model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import at, cnsctl
from safetensors.torch import save_file
from synthetic_stores import make_store
from tiny import make_base

from cnsctl.formats import delta as native


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("travel") / "base")


@pytest.fixture(scope="module")
def source(base, tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("travel") / "store", base, dog="dog", hat="top hat").path


@pytest.fixture
def other(base, tmp_path):
    """An empty store on the same base model."""
    assert cnsctl("init", "--base", base, *at(tmp_path / "other")).code == 0
    return tmp_path / "other"


def delta_of(store, name):
    return Path(cnsctl("show", name, "--json", *at(store)).json["delta"]).read_bytes()


def exported(store, folder, *names, form):
    """The files that are written for these concepts."""
    done = cnsctl("export", *names, "--format", form, "-o", f"{folder}/", "--json", *at(store))
    assert done.code == 0, done.err
    return [file["path"] for file in done.json["files"]]


@pytest.mark.parametrize(("form", "names"), [("native", ["dog"]), ("bundle", ["dog", "hat"])])
def test_own_formats_bring_the_same_bytes(source, other, tmp_path, form, names):
    (file,) = exported(source, tmp_path / "out", *names, form=form)
    flags = ["--name", names[0]] if form == "native" else []
    done = cnsctl("import", file, *flags, *at(other))
    assert done.code == 0, done.err
    for name in names:
        assert delta_of(other, name) == delta_of(source, name)
    assert cnsctl("verify", *at(other)).code == 0


@pytest.mark.parametrize("form", ["diff", "kv", "custom-diffusion", "lora-exact"])
def test_dense_formats_bring_the_same_values_up_to_fp16(source, other, tmp_path, form):
    files = exported(source, tmp_path / "out", "hat", form=form)
    done = cnsctl("import", *files, "--name", "hat", "--class", "top hat", "--budget", 1, *at(other))
    assert done.code == 0, done.err
    was, now = native.read(delta_of(source, "hat")), native.read(delta_of(other, "hat"))
    assert now.class_word == "top hat"
    for encoder, vectors in was.vectors.items():
        assert np.array_equal(now.vectors[encoder], vectors)
    for site in was.shapes:
        found = dict(zip(now.indices[site].tolist(), now.values[site].tolist(), strict=True))
        for at_, value in zip(was.indices[site].tolist(), was.values[site].tolist(), strict=True):
            # a value that the difference in fp16 does not move is not a neuron of the imported concept
            assert abs(found.get(at_, value) - value) <= 2e-3 * max(1.0, abs(value))


def test_a_concept_without_a_class_word_travels(other, base, tmp_path):
    """No line to type contains a gap where the class word would be."""
    save_file({"<cat-toy>": torch.full((40,), 0.1).half()}, tmp_path / "toy.safetensors")
    assert cnsctl("import", tmp_path / "toy.safetensors", *at(other)).code == 0
    for form in ("native", "embedding"):
        files = exported(other, tmp_path / form, "cat-toy", form=form)
        shown = cnsctl("export", "cat-toy", "--format", form, "-o", f"{tmp_path / form}/", "-f", *at(other))
        assert "  on a beach" not in shown.out
        assert "> on a beach" in shown.out or "cat-toy on a beach" in shown.out
    again = tmp_path / "again"
    assert cnsctl("init", "--base", base, *at(again)).code == 0
    assert cnsctl("import", *files, "--name", "cat-toy", *at(again)).code == 0
    assert cnsctl("show", "cat-toy", "--json", *at(again)).json["concept"]["class_word"] == ""
