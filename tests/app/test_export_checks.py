"""What stops an export is found before a LoRA is fitted, and what a fit cannot give is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import at, cnsctl
from synthetic_stores import make_store
from tiny import make_base

from cnsctl.app import export_fit
from cnsctl.errors import CnsctlError
from cnsctl.formats.contents import Factors


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checks")
    return make_store(folder / "store", make_base(folder / "base"), dog="dog").path


class Fitted(Exception):
    """The fit was reached."""


@pytest.fixture(autouse=True)
def _no_fit(tmp_path, monkeypatch):
    def fitting(*_):
        raise Fitted

    monkeypatch.setattr(export_fit, "fitting", fitting)
    monkeypatch.chdir(tmp_path)


def test_another_embedding_at_the_place_is_found_before_the_fit(store):
    Path("cns-dog.safetensors").write_text("mine")
    done = cnsctl("export", "dog", *at(store))
    assert done.code == 2
    assert "file already exists: cns-dog.safetensors" in done.err


def test_the_same_embedding_at_the_place_does_not_stop_the_fit(store):
    assert cnsctl("export", "dog", "--format", "kv", *at(store)).code == 0
    with pytest.raises(Fitted):
        cnsctl("export", "dog", *at(store))


@pytest.mark.parametrize("name", ["dog.safetensors", "cns-dog.safetensors"])
def test_a_file_never_replaces_a_folder_and_that_is_found_before_the_fit(store, name):
    Path(name).mkdir()
    done = cnsctl("export", "dog", "--force", *at(store))
    assert done.code == 2
    assert f"the file would replace a folder: {name}" in done.err
    assert Path(name).is_dir()


@pytest.mark.parametrize("factor", ["down", "up"])
def test_a_factor_that_is_too_large_for_fp16_is_named_by_its_site(factor):
    pair = Factors(down=np.ones((1, 2), np.float32), up=np.ones((2, 1), np.float32))
    getattr(pair, factor)[0, 0] = 1e5
    with pytest.raises(CnsctlError, match=r"the LoRA of <dog> .* at a\.to_k"):
        export_fit._rounded(pair, "dog", "a.to_k")
