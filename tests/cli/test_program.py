"""Commands to copy call the program as the user did, and are for the shell what they look like."""

from __future__ import annotations

import io
import shlex
import sys

import pytest

from cnsctl.cli import program
from cnsctl.cli.streams import fitted


@pytest.mark.parametrize(
    "word", ["dog", "a <dog> on a beach", "it's", 'say "hi"', "a $HOME", "`x`", "", "my demo/store", "wow!"]
)
def test_a_shell_reads_the_words_that_were_meant(word, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cnsctl"])
    assert shlex.split(program.command("gen", word)) == ["cnsctl", "gen", word]


def test_the_program_is_called_as_it_was_called(tmp_path, monkeypatch):
    for folder in ("on path", "env"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cnsctl").write_text("#!/bin/sh\n")
        (tmp_path / folder / "cnsctl").chmod(0o755)
    found, other = (tmp_path / folder / "cnsctl" for folder in ("on path", "env"))
    monkeypatch.setenv("PATH", str(found.parent))
    for called, expected in (
        (found, "cnsctl"),
        (other, shlex.quote(str(other))),
        (tmp_path / "cnsctl" / "__main__.py", f"{shlex.quote(sys.executable)} -m cnsctl"),
    ):
        monkeypatch.setattr(sys, "argv", [str(called)])
        assert program.program() == expected


def test_a_command_is_not_wrapped_at_the_width_of_the_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "30")
    command = program.command("gen", "a <dog> wearing a <hat> in the snow", "--store", "demo/store")
    assert fitted(command, Terminal()) == command
    assert "\n" in fitted(str(command), Terminal())
