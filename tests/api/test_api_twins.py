"""Every command has a Python twin that gives the same result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import at, catalogue, cnsctl, tree
from PIL import Image

from cnsctl import create_store, open_store
from cnsctl.results import as_json

WHEN = "2026-01-01T00:00:00Z"
TRAIN = {"token_embeddings": 2, "learning_rate": 0.02, "steps": 6}


@pytest.fixture(scope="module")
def both(tiny_folder, images_of_two, tmp_path_factory):
    """Two stores of one story, one made by commands and one by calls, and the two results of training."""
    folder = tmp_path_factory.mktemp("twins")
    with pytest.MonkeyPatch.context() as patch:
        _stop_the_clocks(patch)
        flags = [word for name, value in TRAIN.items() for word in (f"--{name.replace('_', '-')}", value)]
        assert cnsctl("init", "--base", tiny_folder, *at(folder / "shell")).code == 0
        pictures = images_of_two / "dog"
        added = cnsctl("add", "dog", pictures, *flags, "--holdout", 1, "--json", *at(folder / "shell"))
        assert added.code == 0, added.err
        store = create_store(folder / "python", base=tiny_folder)
        with store.load() as session:
            trained = session.train("dog", str(pictures), holdout=1, **TRAIN).result()
    return folder / "shell", store, added.lines[-1], trained


def _stop_the_clocks(patch):
    """A store says when each change was made and how long it took."""
    for clock in ("app.stores.now", "app.train.now", "store.transaction._now"):
        patch.setattr(f"cnsctl.{clock}", lambda: WHEN)
    patch.setattr("cnsctl.store.transaction.seconds_since", lambda _began: 1.0)


@pytest.fixture(scope="module")
def session(both):
    with both[1].load() as opened:
        yield opened


def plain(value):
    """As JSON has it: lists for tuples."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def test_training_writes_the_same_store_to_the_byte(both):
    shell, store, _, _ = both
    assert tree(shell) == tree(store.path)
    assert catalogue(shell)


def test_training_gives_the_same_result(both):
    _, store, added, trained = both
    same = {k: v for k, v in added.items() if k != "type"}
    assert plain(as_json(trained)) == same | {"store": str(store.path), "seconds": trained.seconds}


def test_generated_images_are_equal(both, session, tmp_path):
    prompts = ["<dog> on a beach", "a house"]
    done = cnsctl("gen", *prompts, "-n", 2, "--seed", 5, "-o", tmp_path, "--steps", 2, *at(both[1].path))
    assert done.code == 0, done.err
    by_command = [Image.open(line) for line in done.out.splitlines()]
    by_python = list(session.generate_many(prompts, count=2, seed=5, steps=2))
    assert len(by_command) == len(by_python) == 4
    for theirs, ours in zip(by_command, by_python, strict=True):
        np.testing.assert_array_equal(np.asarray(theirs), np.asarray(ours))
        assert theirs.info == ours.info
    alone = session.generate(prompts[0], seed=6, steps=2)
    np.testing.assert_array_equal(np.asarray(alone), np.asarray(by_python[1]))


def test_python_takes_the_names_of_other_tools_a_size_and_a_random_seed(session):
    options = {"steps": 1, "sampler": "Euler a", "size": "64x32"}
    images = [session.generate("<dog>", seed=-1, **options) for _ in range(2)]
    made = [json.loads(image.info["cnsctl"]) for image in images]
    assert {image.size for image in images} == {(64, 32)}
    assert [m["settings"]["sampler"] for m in made] == ["euler-a", "euler-a"]
    assert made[0]["seed"] != made[1]["seed"]
    assert min(m["seed"] for m in made) >= 0


@pytest.mark.parametrize("arguments", [["ls"], ["show", "dog"], ["show", "dog", "--overlaps"]])
def test_reading_gives_the_json_of_the_command(both, arguments):
    store = both[1]
    result = store.list() if arguments == ["ls"] else store.show("dog", overlaps="--overlaps" in arguments)
    assert plain(as_json(result)) == cnsctl(*arguments, "--json", *at(store.path)).json


def test_verify_and_evaluate_give_the_json_of_the_command(both, session):
    store = both[1]
    assert plain(as_json(session.verify())) == cnsctl("verify", "--json", *at(store.path)).json
    assert plain(as_json(session.evaluate("dog"))) == cnsctl("eval", "dog", "--json", *at(store.path)).json
    quick = session.evaluate(images=False)
    assert plain(as_json(quick)) == cnsctl("eval", "--no-images", "--json", *at(store.path)).json


def test_score_gives_the_json_of_the_command_and_saves_nothing(both, session, images_of_two):
    store, before = both[1], tree(both[1].path)
    result = session.score("hat", images_of_two / "hat", steps=4, budget=0.05).result()
    asked = ("score", "hat", images_of_two / "hat", "--steps", 4, "--budget", 0.05, "--json")
    assert plain(as_json(result)) == cnsctl(*asked, *at(store.path)).json
    assert tree(store.path) == before


def test_rename_and_remove_give_the_json_and_the_store_of_the_command(both, tmp_path, monkeypatch):
    _stop_the_clocks(monkeypatch)
    shell, python = (Path(shutil.copytree(both[1].path, tmp_path / name)) for name in ("shell", "python"))
    store = open_store(python)
    for result, command in (
        (store.rename("dog", "rex"), ("mv", "dog", "rex")),
        (store.remove("rex"), ("rm", "rex", "-y")),
    ):
        expected = cnsctl(*command, "--json", *at(shell)).json
        assert plain(as_json(result)) == expected | {"store": str(python)}
    assert tree(shell) == tree(python)


@pytest.mark.parametrize("form", ["lora", "kv", "bundle"])
def test_exports_are_equal_to_the_byte(both, session, tmp_path, monkeypatch, form):
    store = both[1]
    monkeypatch.chdir(tmp_path)
    expected = cnsctl("export", "dog", "--format", form, "-o", "out", "--json", *at(store.path))
    assert expected.code == 0, expected.err
    first = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    for export in (session.export, store.export):
        shutil.rmtree("out")
        assert plain(as_json(export("dog", format=form, output="out"))) == expected.json
        assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == first
