"""`docs/json.md` names every key that is written, and every key that it names is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands import at, cnsctl

PAGE = (Path(__file__).parents[2] / "docs/json.md").read_text()
NAMES = {"dog": "NAME", "hat": "NAME", "cat": "NAME"}
INSIDE = {"ls": "concepts[].", "show": "concept.", "add": "concept."}
"""Where a command puts what is said of a concept."""


def section(title: str) -> str:
    """What stands under a title of the page, up to the next."""
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def told(text: str) -> set[str]:
    """The keys in the first column of its tables."""
    lines = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {key for line in lines for key in re.findall("`([^`]+)`", line)}


HEAD, STANDS_ON = (told(part) for part in PAGE.split("\n## ")[0].split("and those of"))
CONCEPT = told(section("A concept"))


def written(data: object, at: str = "") -> set[str]:
    """Where the values of an object are; an empty list or object counts as itself."""
    if isinstance(data, dict) and data:
        dot = f"{at}." if at else ""
        return {path for key, value in data.items() for path in written(value, dot + NAMES.get(key, key))}
    if isinstance(data, list):
        return {path for value in data for path in written(value, f"{at}[]")} or {f"{at}[]"}
    return {at}


def expected(verb: str) -> set[str]:
    keys = told(section(verb)) | HEAD | (STANDS_ON if verb in ("ls", "verify", "eval", "score") else set())
    keys -= {"mode"} if verb == "score" else set()
    if verb in INSIDE:
        keys = keys - {"concept", "concepts[]"} | {INSIDE[verb] + key for key in CONCEPT}
    return keys


@pytest.fixture(scope="module")
def folder(_stocked, tmp_path_factory) -> Path:
    """A store that is only read."""
    return _stocked


@pytest.mark.parametrize(
    ("verb", "line"),
    [
        ("ls", ["ls"]),
        ("show", ["show", "dog", "--overlaps"]),
        ("verify", ["verify"]),
        ("eval", ["eval", "dog"]),
    ],
)
def test_what_readers_write_is_what_the_page_tells(folder, verb, line):
    found = cnsctl(*line, "--json", *at(folder)).json
    assert written(found) == expected(verb)


def test_score_tells_whose_neurons_they_are(folder, images_of_two):
    found = cnsctl("score", "cat", images_of_two / "hat", "--class", "cat", "--json", *at(folder)).json
    assert written(found) == expected("score")


def test_lines_of_add_and_its_result(stocked, images_of_two):
    line = ["add", "dog", images_of_two / "dog", "--replace", "--batch-size", 9, "--json"]
    lines = cnsctl(*line, *at(stocked)).lines
    assert {one["type"] for one in lines} >= {"phase", "step", "selected", "note", "result"}
    assert set.union(*map(written, lines)) == expected("add")


def test_lines_of_gen_and_its_result(stocked, tmp_path):
    done = cnsctl("gen", "-", "-o", tmp_path / "out", "--json", *at(stocked), stdin="<dog>\n<nobody>\n")
    assert {line["type"] for line in done.lines} == {"phase", "image", "failed", "result"}
    assert set.union(*map(written, done.lines)) == expected("gen") - {"text"}


def test_answers_of_mv_rm_and_an_error(stocked):
    keys = HEAD | told(section("mv, rm, demo")) - {"sheet", "concepts[]"}
    moved = cnsctl("mv", "hat", "cat", "--json", *at(stocked)).json
    removed = cnsctl("rm", "dog", "-y", "--json", *at(stocked)).json
    assert removed["touched"] == {}  # not merged
    found = written({**moved, **removed, "touched": {"NAME": {"OTHER": 1}}})
    assert {re.sub(r"^(discarded)$", r"\1[]", path) for path in found} == keys
    error = json.loads(cnsctl("show", "dog", "--json", *at(stocked)).err)
    assert set(error) == told(section("Errors")) | {"format"}


def test_init_says_what_the_store_stands_on(tiny_folder, tmp_path):
    made = cnsctl("init", "--base", tiny_folder, "--json", *at(tmp_path / "new")).json
    listed = cnsctl("ls", "--json", *at(tmp_path / "new")).json
    assert set(made) == set(listed) - {"concepts", "unfinished"}
    assert written(made) == HEAD | STANDS_ON | {"free.neurons", "free.share"}
