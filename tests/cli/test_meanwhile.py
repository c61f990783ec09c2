"""Another process changes the store while a command loads its base model: an error, or the new state."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import at, cnsctl

from cnsctl.app import session, stores
from cnsctl.errors import ConceptNotFoundError, StoreNotFoundError, UsageError
from cnsctl.store import Store


@pytest.fixture
def meanwhile(monkeypatch):
    """Run a command of another process while the next one loads its base model."""

    def after_loading(*other: object) -> None:
        start = session.start

        def started(*args, **kwargs):
            monkeypatch.setattr(session, "start", start)
            loaded = yield from start(*args, **kwargs)
            assert cnsctl(*other).code == 0
            return loaded

        monkeypatch.setattr(session, "start", started)

    return after_loading


@pytest.mark.parametrize("line", [["gen", "<dog>"], ["verify", "dog"], ["eval", "dog"]])
def test_a_concept_that_was_removed_is_reported_as_not_found(stocked, tmp_path, monkeypatch, meanwhile, line):
    monkeypatch.chdir(tmp_path)
    meanwhile("rm", "dog", "-y", *at(stocked))
    done = cnsctl(*line, "--json", *at(stocked))
    assert (done.code, json.loads(done.err)["code"]) == (4, "concept-not-found")


def test_all_concepts_are_those_after_loading(stocked, meanwhile):
    meanwhile("mv", "dog", "rex", *at(stocked))
    rows = cnsctl("verify", "--json", *at(stocked)).json["concepts"]
    assert [row["name"] for row in rows] == ["rex", "hat"]


def test_a_line_that_names_a_removed_concept_fails_alone(stocked, tmp_path, meanwhile):
    """Images of the other concepts are generated."""
    meanwhile("rm", "dog", "-y", *at(stocked))
    line = ["gen", "-", "-o", tmp_path / "out", "--json", *at(stocked)]
    done = cnsctl(*line, stdin="<hat>\n<dog>\n<hat> again\n")
    assert [one["type"] for one in done.lines if one["type"] not in ("phase", "step")] == [
        "image",
        "failed",
        "image",
        "result",
    ]
    assert done.code == 3


@pytest.mark.parametrize("replaced", [False, True])
def test_a_reader_that_misses_a_file_reads_the_catalogue_once_more(stocked, tiny, monkeypatch, replaced):
    """The concept was removed or replaced, and its files deleted, after its record was read."""
    store = Store.open(stocked)
    stale, honest, hat = [store.snapshot()], store.snapshot, store.concept("hat")
    delta = store.delta(hat)
    other = Store.open(stocked)
    with other.transaction("change") as tx:
        tx.purges = True
        tx.remove("dog")
        if replaced:
            fields = {
                key: hat[key]
                for key in ("class_word", "tokens", "share", "share_denoiser", "created", "recipe", "scores")
            }
            tx.add({**fields, "name": "dog", "captions": []}, delta, references=[], probe=b"x")
    monkeypatch.setattr(store, "snapshot", lambda: stale.pop() if stale else honest())
    loaded = session.Session(store=store, base=tiny, device=tiny.device, dtype="fp32")
    if replaced:
        assert loaded.overlay(["dog"]).concepts["dog"].key == hat["delta"]
    else:
        with pytest.raises(ConceptNotFoundError):
            loaded.overlay(["dog"])


def test_commands_started_together_create_one_store(tmp_path):
    """On a new machine: one creates the store, all use it."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: stores.open_or_create(tmp_path / "s"), range(4)))
    assert sorted(new for _, new in made) == [False, False, False, True]


def test_a_store_is_not_created_in_a_folder_with_other_files(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"mine")
    with pytest.raises(UsageError, match="not empty"):
        stores.open_or_create(tmp_path)
    with pytest.raises(StoreNotFoundError):
        stores.open_store(tmp_path)
    assert [p.name for p in Path(tmp_path).iterdir()] == ["notes.txt"]
