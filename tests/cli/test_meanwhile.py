"""Another process changes the store while a command loads its base: an error in words, or the answer of now."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import at, cnsctl

from cnsctl.app import audit, generate, shelf
from cnsctl.errors import StoreNotFoundError, UsageError


@pytest.fixture
def meanwhile(monkeypatch):
    """Run a command of another process while the next one loads its base."""

    def after_loading(module, *other: object) -> None:
        start = module.start

        def started(*args, **kwargs):
            monkeypatch.setattr(module, "start", start)
            session = start(*args, **kwargs)
            assert cnsctl(*other).code == 0
            return session

        monkeypatch.setattr(module, "start", started)

    return after_loading


@pytest.mark.parametrize(
    ("module", "line"), [(generate, ["gen", "<dog>"]), (audit, ["verify", "dog"]), (audit, ["eval", "dog"])]
)
def test_a_concept_that_was_taken_out_is_missed_in_words(stocked, tmp_path, monkeypatch, meanwhile, module, line):
    monkeypatch.chdir(tmp_path)
    meanwhile(module, "rm", "dog", "-y", *at(stocked))
    done = cnsctl(*line, "--json", *at(stocked))
    assert (done.code, json.loads(done.err)["code"]) == (4, "no-such-concept")


def test_all_concepts_are_those_of_now(stocked, meanwhile):
    meanwhile(audit, "mv", "dog", "rex", *at(stocked))
    rows = cnsctl("verify", "--json", *at(stocked)).json["concepts"]
    assert [row["name"] for row in rows] == ["rex", "hat"]


def test_a_line_that_names_what_is_gone_fails_alone(stocked, tmp_path, meanwhile):
    """Pictures of the concepts that are left are drawn."""
    meanwhile(generate, "rm", "dog", "-y", *at(stocked))
    line = ["gen", "-", "-o", tmp_path / "out", "--json", *at(stocked)]
    done = cnsctl(*line, stdin="<hat>\n<dog>\n<hat> again\n")
    assert [one["type"] for one in done.lines if one["type"] != "phase"] == ["picture", "failed", "picture", "result"]
    assert done.code == 3


def test_all_who_come_first_use_the_one_store(tmp_path):
    """On a fresh machine two commands are started at once: one makes the store, both go on."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: shelf.open_or_create(tmp_path / "s"), range(4)))
    assert sorted(new for _, new in made) == [False, False, False, True]


def test_where_no_store_can_be_made_that_is_said(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"mine")
    with pytest.raises(UsageError, match="not empty and no store"):
        shelf.open_or_create(tmp_path)
    with pytest.raises(StoreNotFoundError):
        shelf.open_store(tmp_path)
    assert [p.name for p in Path(tmp_path).iterdir()] == ["notes.txt"]
