"""The tutorial's commands are run line by line, on a tiny base model; the README's are among them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commands import at, cnsctl, environment
from tiny import EXAMPLES, some_images

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")


def tour() -> list[str]:
    """The command lines of the tutorial, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```", TUTORIAL, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE)]


@pytest.mark.usefixtures("any_quality")
def test_the_tour_runs_line_by_line(request, tmp_path, monkeypatch):
    """With --full-tour: on pocket, with all steps, and a process for every command."""
    full = request.config.getoption("--full-tour")
    here, store = tmp_path / "here", tmp_path / "store"
    here.mkdir()
    if full:
        shutil.copytree(EXAMPLES, here / "examples")
    else:
        for name in ("dog", "hat", "cat"):
            some_images(name, 2, here / "examples" / name)
        request.getfixturevalue("package")  # the first command makes a store on the built-in base model
    monkeypatch.chdir(here)
    monkeypatch.setenv("CNSCTL_STORE", str(store))
    lines = tour()
    assert len(lines) >= 12
    for line in lines:
        command = line if shutil.which("jq") else line.split("| jq")[0]
        done = (in_processes if full else in_this_process)(command, tmp_path / "bin")
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if full:
            sys.stdout.write(f"$ {line}\n{done.stdout}{done.stderr}")
    assert len(list((here / "out").glob("*.png"))) == 4 + 2 + 1
    assert (here / "two.png").exists()
    assert json.loads((here / "eval.json").read_text())["concepts"][0]["name"] == "dog"
    assert cnsctl("ls", "-q", *at(store)).out == "topper\n"


def shell(line: str, folder: Path, program: str) -> subprocess.Popen[str]:
    """Run a line in which `cnsctl` is a program of one line."""
    folder.mkdir(exist_ok=True)
    (folder / "cnsctl").write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    (folder / "cnsctl").chmod(0o755)
    return subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment(PATH=f"{folder}:{environment()['PATH']}"),
    )  # fmt: skip


def in_processes(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line as a user runs it, with this checkout's `cnsctl`."""
    started = shell(line, folder, f'"{sys.executable}" -m cnsctl')
    out, err = started.communicate()
    return subprocess.CompletedProcess(line, started.returncode, out, err)


def in_this_process(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The same, but that `cnsctl` has this process do it: fourteen processes would load torch fourteen times."""
    folder.mkdir(exist_ok=True)
    (folder / "ask.py").write_text(ASK)
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = shell(line, folder, f'"{sys.executable}" "{folder}/ask.py" {server.getsockname()[1]}')
        server.settimeout(60)
        with server.accept()[0] as wire, wire.makefile("rw", encoding="utf-8") as asked:
            words, stdin = json.loads(asked.readline())
            done = cnsctl(*words, stdin=stdin)
            print(json.dumps([done.code, done.out, done.err]), file=asked, flush=True)
        out, err = started.communicate()
    return subprocess.CompletedProcess(line, started.returncode, out, err)


ASK = """
import json, socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as wire, wire.makefile("rw", encoding="utf-8") as there:
    print(json.dumps([sys.argv[2:], sys.stdin.read()]), file=there, flush=True)
    code, out, err = json.loads(there.readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""
"""`cnsctl`, done by whoever listens at a port."""


def test_commands_of_the_readme_are_in_the_tutorial():
    block = re.search(r"<!-- tour:.*?-->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    lines = block[1].splitlines()
    assert len(lines) >= 5
    assert [line for line in lines if line not in tour()] == []
