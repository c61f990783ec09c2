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


@pytest.mark.parametrize("columns", [40, 50, 80, 100, 200])
@pytest.mark.parametrize("verb", ["cnsctl", "add", "gen", "import", "completion"])
def test_help_follows_the_terminal_and_splits_no_word(monkeypatch, verb, columns):
    monkeypatch.setenv("COLUMNS", "1000")
    line = [*([] if verb == "cnsctl" else [verb]), "--help"]
    words = set(re.split(r"[\s|]+", cnsctl(*line).out))
    monkeypatch.setenv("COLUMNS", str(columns))
    text = cnsctl(*line).out
    assert set(re.split(r"[\s|]+", text)) == words
    for row in text.splitlines():
        assert len(row) <= columns or len(row.split()) == 1, row
    if columns > 50:
        assert max(map(len, text.splitlines())) > min(columns, 120) - 20


def test_research_options_are_not_among_the_common_ones():
    common, _, rest = cnsctl("add", "--help").out.partition("Advanced:")
    for flag in ("--budget", "--token-embeddings", "--warmup", "--policy", "--orthogonal", "--random-mask", "--select"):
        assert flag not in common
        assert flag in rest
    assert "pocket 150" in " ".join(common.split())


@pytest.mark.parametrize("line", [["help", "rm"], ["rm", "--help"], ["rm", "-h"], ["-q", "help", "rm"]])
def test_help_of_a_verb_can_be_asked_for_in_several_ways(line):
    assert cnsctl(*line).out.startswith("Usage: cnsctl rm")
