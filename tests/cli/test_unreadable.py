"""A file that cannot be read is named, and damage is exit 6: a part of what `make torture` does with every command and file."""

from __future__ import annotations

import os

import pytest
from torture import every_file
from torture.tally import Tally

pytestmark = pytest.mark.slow

HEAVY = {
    "verify",
    "export lora",
    "export checkpoint",
    "import lora",
    "import bundle",
    "import delta",
    "eval",
    "score",
    "add",
    "add --replace",
}
"""Commands that load a model and compute; their own files are read in the other test."""

CHEAP = ["ls", "mv", "check --read-data", "export bundle", "rm --purge", "undo", "gc", "backup", "base"]
"""Commands that load no model, with which each kind of file is damaged."""


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return every_file.outside(tmp_path_factory.mktemp("unreadable") / "outside")


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """The base model is in the store."""
    return every_file.inside(world, tmp_path_factory.mktemp("damage") / "inside")


@pytest.mark.parametrize("name", sorted(set(every_file.LINES) - HEAVY))
def test_promise_3_every_file_that_cannot_be_read_is_named(world, name):
    found = Tally()
    every_file.unreadable(world, name, found)
    found.assert_clean()
    assert found.faults >= 1


@pytest.mark.parametrize("name", ["import bundle", "import lora", "import delta", "add"])
def test_promise_3_a_file_of_the_user_that_cannot_be_read_is_named(world, name):
    found = Tally()
    own = (world.folder / "in", world.folder / "images")
    every_file.unreadable(
        world, name, found, only=lambda path: path.is_relative_to(own[0]) or path.is_relative_to(own[1])
    )
    found.assert_clean()
    assert found.faults >= 1


@pytest.mark.parametrize("name", CHEAP)
def test_promise_4_damage_of_any_kind_of_file_is_exit_6_or_does_not_matter(whole, name):
    found = Tally()
    every_file.damaged(whole, name, found, [path for path in whole.kinds_of_files() if not path.startswith("base/")])
    found.assert_clean()


@pytest.mark.parametrize(
    ("name", "how"), [("gen", "a flipped bit"), ("export checkpoint", "gone"), ("score", "cut"), ("base", "gone")]
)
def test_promise_4_damage_of_a_base_model_in_the_store_is_exit_6_or_does_not_matter(whole, name, how):
    found = Tally()
    every_file.damaged(whole, name, found, [p for p in whole.kinds_of_files() if p.startswith("base/")], [how])
    found.assert_clean()
