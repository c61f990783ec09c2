"""The workshop is not installed: tests find it beside them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def trained_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder in which every stage before the denoiser has run, tiny."""
    from pocket.training.plan import TrainSpec, trained

    folder = tmp_path_factory.mktemp("pocket") / "run"
    stages = ("tokenizer", "render", "vae", "clip", "latents")
    spec = TrainSpec(work=folder, out=folder / "weights", stages=stages, n_scenes=96, seed=3, tiny=True, tiny_steps=6)
    list(trained(spec))
    return folder


@pytest.fixture
def work(trained_work: Path, tmp_path: Path) -> Path:
    """A copy of the prepared folder, for a test of its own."""
    return Path(shutil.copytree(trained_work, tmp_path / "run"))
