"""Machines as they are: rows that need a process, a umask or a limit of their own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
from commands import at, cnsctl, environment

NO_HOME = (
    "import os, pwd, sys\n"
    "def absent(*_): raise KeyError\n"
    "pwd.getpwuid = pwd.getpwnam = absent\n"
    "[os.environ.pop(name, None) for name in ('HOME', 'XDG_DATA_HOME', 'CNSCTL_STORE')]\n"
    "from cnsctl.cli.main import main\n"
    "main(['ls'])\n"
)


def run(*line: object, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, line)], env=environment(**changes), capture_output=True, text=True, check=False
    )


def test_e2_without_a_home_folder_the_error_names_the_option():
    done = run("-c", NO_HOME)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "name a store with --store DIR or CNSCTL_STORE" in done.stderr


@pytest.mark.parametrize(("mask", "files", "folders"), [(0o002, 0o664, 0o775), (0o077, 0o600, 0o700)])
def test_e4_modes_in_a_store_follow_the_umask(tiny_folder, images, tmp_path, mask, files, folders):
    store, seen = tmp_path / "store", set()
    before = os.umask(mask)
    try:
        assert cnsctl("init", "--base", tiny_folder, *at(store)).code == 0
        done = cnsctl("add", "dog", images, "--steps", 3, "--no-measure", *at(store))
    finally:
        os.umask(before)
    assert done.code == 0, done.err
    for path in [store, *store.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (folders if path.is_dir() else files), path
        seen.add(path.name)
    assert {"lock", "work", "catalogue.json"} <= seen


def test_e4_training_state_and_its_lock_follow_the_umask_too(empty, images, monkeypatch):
    from cnsctl.errors import NotSavedError

    def refuse(*_args, **_more):
        raise NotSavedError("worse")
        yield

    monkeypatch.setattr("cnsctl.app.train.accepted", refuse)
    before = os.umask(0o002)
    try:
        assert cnsctl("add", "dog", images, "--steps", 3, "--no-preview", *at(empty)).code == 8
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (empty / "work").rglob("*")}
    assert found.pop("dog") == 0o775
    assert {"lock", "state.safetensors", "latents.safetensors"} <= set(found)
    assert set(found.values()) == {0o664}


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 * 10**8,) * 2); "


@pytest.mark.parametrize("line", [["gen", "x"], ["add", "x", "{images}", "--class", "cat"]])
def test_e16_too_little_memory_is_said_in_words(stocked, images, line):
    words = [word.format(images=images) for word in line]
    done = run("-c", f"{LIMITED}from cnsctl.cli.main import main; main({[*words, *at(stocked)]!r})")
    assert done.returncode == 1, done.stderr
    assert "error[out-of-memory]: not enough memory: this process may use 0.4 GB" in done.stderr
    assert "Traceback" not in done.stderr


WHICH_PYTHON = (
    "import sys\n"
    "from cnsctl.cli import main\n"
    "main.main = lambda arguments: print(sys.flags.optimize, *arguments)\n"
    "main.run()\n"
)


def test_python_without_docstrings_is_started_again():
    """With the same arguments, and docstrings: transformers reads its own."""
    done = run("-c", WHICH_PYTHON, "gen", "<dog>", PYTHONOPTIMIZE="2", PYTHONWARNINGS="error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 gen <dog>\n", "")


def test_a_refused_add_leaves_no_training_state(stocked, images):
    before = sorted((stocked / "work").rglob("*"))
    line = ("add", "x", images, "--class", "dog " * 14, "--token-embeddings", 9, *at(stocked))
    refused = cnsctl(*line)
    assert (refused.code, "--class" in refused.err, "load the base model" in refused.err) == (2, True, True)
    (images / "1.txt").write_text("there is nothing " * 40 + "but a dog")
    late = cnsctl("add", "dog2", images, "--class", "dog", *at(stocked))
    assert (late.code, "caption of 1.png" in late.err) == (1, True)
    assert sorted((stocked / "work").rglob("*")) == before
    assert "training of" not in cnsctl("ls", *at(stocked)).err


def test_a_store_without_free_neurons_is_refused_before_training(tiny_folder, images, tmp_path):
    store = tmp_path / "merged"
    assert cnsctl("init", "--base", tiny_folder, "--mode", "merged", *at(store)).code == 0
    line = ("--steps", 2, "--no-preview", "--allow-worse", "--budget", 0.6, *at(store))
    assert cnsctl("add", "dog", images, *line).code == 0
    full = cnsctl("add", "hat", images, *line, "--policy", "exclusive")
    assert (full.code, "not enough free neurons" in full.err, "train the" in full.err) == (1, True, False), full.err
    assert "training of" not in cnsctl("ls", *at(store)).err
