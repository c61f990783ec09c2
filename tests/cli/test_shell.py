"""Rules of detecting unquoted angles, with real shells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnsctl.cli.shell import redirected_concept

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "import sys; from cnsctl.cli.shell import redirected_concept as r; sys.stderr.write(str(r(0, ['cat', 'dog'])))"
)


def asked(line, folder):
    """What the program finds if a shell runs `line`, in which CNSCTL is the program."""
    line = line.replace("CNSCTL", f'{sys.executable} -c "{PROGRAM}"')
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["sh", "-c", line], cwd=folder, env=env, input="", capture_output=True, text=True).stderr


def test_a_concept_in_unquoted_angles_is_found_when_a_file_has_its_name(tmp_path):
    (tmp_path / "dog").write_text("x")
    assert asked("CNSCTL gen <dog> on a beach", tmp_path) == "dog"
    assert (tmp_path / "on").exists()


def test_a_folder_named_like_a_concept_stops_python_itself(tmp_path):
    """If this fails, Python can start there now, and the next line must expect "dog"."""
    (tmp_path / "dog").mkdir()
    assert "is a directory, cannot continue" in asked("CNSCTL gen <dog> on a beach", tmp_path)


@pytest.mark.parametrize(
    "line", ["CNSCTL < prompts.txt", "echo a | CNSCTL", "CNSCTL < /dev/null", "CNSCTL", "CNSCTL <&-"]
)
def test_other_standard_inputs_are_ignored(tmp_path, line):
    (tmp_path / "dog").write_text("x")
    (tmp_path / "prompts.txt").write_text("a <dog>")
    assert asked(line, tmp_path) == "None"


def test_only_known_concepts_of_the_current_folder_count(tmp_path, monkeypatch):
    (tmp_path / "bird").write_text("x")
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "bird").open() as file:
        assert redirected_concept(file.fileno(), ["dog"]) is None
        assert redirected_concept(file.fileno(), ["dog", "bird"]) == "bird"
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert redirected_concept(file.fileno(), ["dog", "bird"]) is None


def test_names_are_not_read_if_stdin_is_a_pipe():
    read, write = os.pipe()
    os.close(write)
    assert redirected_concept(read, (pytest.fail("asked") for _ in range(1))) is None
    os.close(read)
