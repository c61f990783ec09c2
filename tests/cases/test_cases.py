"""What people bring, row by row: each is used, or refused before the training with one clear error. The store is unchanged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from case_table import Case
from commands import cnsctl, tree
from image_cases import CAPTIONS, FOLDERS, IMAGES
from prompt_cases import MISREAD, PROMPTS, STREAMS
from word_cases import COMMANDS, OPTIONS, PLACES, VALUES

from cnsctl.app import session
from cnsctl.events import result_of

TABLES = {
    "images": IMAGES,
    "folders": FOLDERS,
    "captions": CAPTIONS,
    "prompts": PROMPTS,
    "misread": MISREAD,
    "streams": STREAMS,
    "commands": COMMANDS,
    "options": OPTIONS,
    "values": VALUES,
    "places": PLACES,
}


@pytest.fixture(scope="module")
def loaded(shared_store):
    """The base model of the store, loaded once for all rows."""
    from cnsctl.store import Store

    return result_of(session.start(Store.open(shared_store), {"device": "cpu", "dtype": "fp32"}))


@pytest.fixture
def never_trained(loaded, monkeypatch):
    """Lets `gen` use the loaded base model; ends `add` successfully where the training would begin."""

    def start(store, compute, *, hash_weights=False, **_more):
        if hash_weights:
            raise SystemExit(0)
        yield 1.0
        return dataclasses.replace(loaded, store=store)

    monkeypatch.setattr(session, "start", start)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{table}-{case.id}") for table, cases in TABLES.items() for case in cases]
)
def test_what_is_brought_is_used_or_refused_in_words(case: Case, shared_store, tmp_path, monkeypatch, never_trained):
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "home").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CNSCTL_STORE", str(shared_store))
    for name, value in case.env:
        monkeypatch.setenv(name, value.format(folder=folder))
    case.make(folder)
    before = tree(shared_store), _training(shared_store)

    done = cnsctl(*case.line, stdin=case.stdin)

    said = done.out + done.err
    assert done.code == case.code, said
    assert [words for words in case.says if words not in said] == [], said
    assert [words for words in case.never if words in said] == [], said
    if case.code:
        assert said.count("error[") == 1 or case.code == 3, said
        assert "hint:" in said, said
    assert (tree(shared_store), _training(shared_store)) == before
    assert not (folder / "~").exists()


def _training(store: Path) -> list[str]:
    """Training state in the store."""
    return sorted(path.name for path in (store / "work").iterdir()) if (store / "work").exists() else []


def test_every_row_has_a_name_of_its_own():
    for table, cases in TABLES.items():
        names = [case.id for case in cases]
        assert sorted(set(names)) == sorted(names), table
