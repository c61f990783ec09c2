"""Base models that tests share, loaded once."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# tests run beside each other, in as many processes as cores; more threads would only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("ours", deadline=None, max_examples=50)  # a busy machine must not fail a test
settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the long tests of files that are not named")
    parser.addoption("--full-tour", action="store_true", help="run the README's tour with all steps")
    parser.addoption("--write-golden", action="store_true", help="write the golden files of the help texts")
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where shared base models compute (cpu)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--device") == "cpu":  # bit-identical results are tested where every machine agrees
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if not hasattr(config, "workerinput"):  # the processes of xdist take over the option
        config.option.slow |= config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    gc.disable()  # what is imported stays: searching it for garbage takes seconds


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long tests are not in the default suite. They do not come last: another process could not take any part of them."""
    last = ("data", "metrics", "report", "store")
    items.sort(key=lambda item: item.path.parent.name in last)
    if not config.getoption("slow"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_collection_finish() -> None:
    """From here on the garbage collector looks at what tests make, not at the modules that they imported."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model that predicts ε."""
    from tiny import make_base

    return make_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def tiny_v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model that predicts v, with other widths and a shorter text."""
    from tiny import make_base

    return make_base(
        tmp_path_factory.mktemp("bases") / "tiny-v", prediction="v_prediction", width=24, text_length=16,
        linear_projection=True, seed=1,
    )  # fmt: skip


def _load(folder: Path, pytestconfig: pytest.Config):
    from cnsctl.bases import base_folder, devices, registry

    device, dtype = devices.choose(pytestconfig.getoption("--device"), "fp32")
    return registry.load(base_folder.open_folder(folder), device=device, dtype=dtype, hash_weights=True)


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path, pytestconfig: pytest.Config):
    return _load(tiny_folder, pytestconfig)


@pytest.fixture(scope="session")
def tiny_v(tiny_v_folder: Path, pytestconfig: pytest.Config):
    return _load(tiny_v_folder, pytestconfig)


@pytest.fixture
def already_loaded(tiny_folder: Path, tiny, tiny_v_folder: Path, tiny_v, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands use the tiny base models of the tests instead of loading them again, which takes as long as a few steps.

    Not in another precision, with less memory, or from a folder that is a copy.
    """
    import torch

    from cnsctl.bases import registry
    from cnsctl.bases.memory_estimate import KEEP_ALL

    honest = registry.loading
    kept = {folder.resolve(): base for folder, base in ((tiny_folder, tiny), (tiny_v_folder, tiny_v))}

    def loading(folder, *, device, dtype, first=False, plan=None, **options):
        base = kept.get(folder.path.resolve())
        usual = (str(device), dtype, plan or KEEP_ALL) == ("cpu", torch.float32, KEEP_ALL)
        if base is None or first or folder.prediction or not usual:
            return (yield from honest(folder, device=device, dtype=dtype, first=first, plan=plan, **options))
        yield 0.5
        return base

    monkeypatch.setattr(registry, "loading", loading)


@pytest.fixture
def really_loaded() -> None:
    """Commands load their base model, whatever it is."""


@pytest.fixture(autouse=True)
def _already_loaded(request: pytest.FixtureRequest) -> None:
    """In tests that are not about loading a base model."""
    if request.path.parent.name in ("api", "app", "cases", "cli") and "really_loaded" not in request.fixturenames:
        request.getfixturevalue("already_loaded")


@pytest.fixture(scope="session")
def pocket(pytestconfig: pytest.Config):
    from cnsctl.bases.base_folder import POCKET

    return _load(POCKET, pytestconfig)


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """By version: a tiny diffusers folder, and the single file that it is under the original names; tests only read them."""
    from original_files import make_folder, write_single_file

    top = tmp_path_factory.mktemp("single")

    @cache
    def made(version: str) -> tuple[Path, Path]:
        folder = make_folder(top / version, version)
        return folder, write_single_file(folder, top / f"my {version}.safetensors")

    return made


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three small images."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = np.kron(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8), np.ones((10, 10, 1), dtype=np.uint8))
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def shared_store(tiny_folder: Path, images_of_two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store on the tiny base model with two concepts, `dog` and `hat`, which tests only read."""
    from commands import at, cnsctl

    store = tmp_path_factory.mktemp("stores") / "stocked"
    assert cnsctl("init", "--base", tiny_folder, *at(store)).code == 0
    for name in ("dog", "hat"):
        done = cnsctl("add", name, images_of_two / name, "--class", name, *at(store))
        assert done.code == 0, done.err
    return store


@pytest.fixture(scope="session")
def images_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of three images, `dog` and `hat`: what is measured takes as long as there are images."""
    from tiny import some_images

    folder = tmp_path_factory.mktemp("images")
    for name in ("dog", "hat"):
        some_images(name, 3, folder / name)
    return folder


@pytest.fixture
def stocked(shared_store: Path, tmp_path: Path) -> Path:
    """A store on the tiny base model with two concepts, `dog` and `hat`, for this test alone."""
    import shutil

    return Path(shutil.copytree(shared_store, tmp_path / "store"))


@pytest.fixture(scope="session")
def shared_merged(tiny_folder: Path, images_of_two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in merged mode on the tiny base model with one concept, `dog`, which tests only read."""
    from commands import at, cnsctl

    store = tmp_path_factory.mktemp("stores") / "merged"
    assert cnsctl("init", "--base", tiny_folder, "--mode", "merged", *at(store)).code == 0
    done = cnsctl("add", "dog", images_of_two / "dog", *at(store))
    assert done.code == 0, done.err
    return store


@pytest.fixture
def merged(shared_merged: Path, tmp_path: Path) -> Path:
    """A store in merged mode on the tiny base model with one concept, `dog`, for this test alone."""
    import shutil

    return Path(shutil.copytree(shared_merged, tmp_path / "merged"))


@pytest.fixture
def package(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose built-in base model is a tiny one. The help names the real one's settings, which verbs read once."""
    import shutil

    from tiny import write_facts

    from cnsctl.bases import base_folder, facts
    from cnsctl.cli.verbs import add, demo, gen, score  # noqa: F401

    embedded = Path(shutil.copytree(tiny_folder, tmp_path / "package" / "pocket"))
    monkeypatch.setattr(base_folder, "POCKET", embedded)
    monkeypatch.setattr(facts, "POCKET_FACTS", embedded.with_name("facts.json"))
    write_facts(embedded)
    return embedded


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """`add` saves what it has learned without measuring it, which takes as long as its training here."""
    from cnsctl import results
    from cnsctl.app import evaluate

    def fresh(*_args, **_options):
        yield from ()
        return results.Scores(error_removed=1.0, clip_i=None, clip_t=None), [np.zeros((8, 8, 3), np.uint8)]

    monkeypatch.setattr(evaluate, "fresh", fresh)


@pytest.fixture(scope="session")
def shared_empty(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store on the tiny base model, which tests only read."""
    from commands import at, cnsctl

    store = tmp_path_factory.mktemp("stores") / "empty"
    assert cnsctl("init", "--base", tiny_folder, *at(store)).code == 0
    return store


@pytest.fixture
def empty(shared_empty: Path, tmp_path: Path) -> Path:
    """An empty store on the tiny base model, for this test alone."""
    import shutil

    return Path(shutil.copytree(shared_empty, tmp_path / "empty"))


@pytest.fixture(autouse=True, scope="session")
def _measured_alike() -> Iterator[None]:
    from commands import measure_little

    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch)
        yield


@pytest.fixture
def measured_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """`add` and `eval` measure on as many images as they do for users."""
    from commands import LADDER

    from cnsctl.app import measuring

    for name, value in LADDER.items():
        monkeypatch.setattr(measuring, name, value)


@pytest.fixture
def any_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    """Concepts are saved however bad they are: a few steps on pocket train nothing that could be judged."""
    from cnsctl.app import acceptance

    monkeypatch.setattr(acceptance, "SHOWN_ERROR", float("inf"))
    monkeypatch.setattr(acceptance, "CLEAR_CLIP", float("inf"))
