"""Bases that tests share, loaded once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base that predicts ε."""
    from tiny import make_base

    return make_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def tiny_v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base that predicts v, with other widths and a shorter text."""
    from tiny import make_base

    return make_base(
        tmp_path_factory.mktemp("bases") / "tiny-v", prediction="v_prediction", width=24, text_length=16,
        linear_projection=True, seed=1,
    )  # fmt: skip


def _load(folder: Path):
    import torch

    torch.set_num_threads(1)  # tests run beside each other; tiny models gain nothing from more

    from cnsctl.bases import folders

    return folders.load(folders.open_folder(folder), device=torch.device("cpu"), dtype=torch.float32, hash_weights=True)


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path):
    return _load(tiny_folder)


@pytest.fixture(scope="session")
def tiny_v(tiny_v_folder: Path):
    return _load(tiny_v_folder)


@pytest.fixture(scope="session")
def pocket():
    from cnsctl.bases.folders import POCKET

    return _load(POCKET)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three small pictures."""
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = np.kron(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8), np.ones((10, 10, 1), dtype=np.uint8))
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder
