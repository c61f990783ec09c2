"""The help texts, as files: `make completions`, or `pytest tests/cli/test_help.py --write-golden`, writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import cnsctl

from cnsctl.cli.main import GROUPS

GOLDEN = Path(__file__).parent / "golden"
VERBS = [verb for verbs in GROUPS.values() for verb in verbs]


@pytest.mark.parametrize("verb", ["cnsctl", *VERBS])
def test_the_help_at_80_columns_is_the_golden_file(request, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "80")
    done = cnsctl(*([] if verb == "cnsctl" else [verb]), "--help")
    assert done.code == 0
    file = GOLDEN / f"{verb}.txt"
    if request.config.getoption("--write-golden"):
        file.write_text(done.out)
    assert done.out == file.read_text()


def test_there_is_a_golden_file_for_every_verb_and_no_other():
    assert {file.stem for file in GOLDEN.glob("*.txt")} == {"cnsctl", *VERBS}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_begins_with_3_to_8_words_and_contains_an_example(verb):
    done = cnsctl(verb, "--help")
    title = done.out.splitlines()[2].strip()
    assert 3 <= len(title.split()) <= 8
    assert title[0].isupper()
    assert not title.endswith(".")
    assert f"Example:  cnsctl {verb} " in done.out


@pytest.mark.parametrize("line", [[], ["--help"], ["-h"]])
def test_the_help_of_the_program_lists_every_verb_in_its_group(line):
    done = cnsctl(*line)
    text = done.out or done.err
    assert done.code == (0 if line else 2)
    for title, verbs in GROUPS.items():
        block = re.search(rf"^{title}:\n((?:  .*\n)+)", text, re.MULTILINE)
        assert block is not None
        assert [row.split()[0] for row in block[1].splitlines()] == list(verbs)
    assert "--version" in text


@pytest.mark.parametrize("columns", ["40", "50", "80", "200"])
def test_help_is_never_truncated(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert "..." not in cnsctl("--help").out.replace("[ARGS]...", "")
