"""The README's tour: every line is run, on pocket, with few steps."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import at, cnsctl, environment
from tiny import EXAMPLES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tour() -> list[str]:
    block = re.search(r"<!-- tour:.*?-->\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    return [line for line in block[1].splitlines() if line.strip()]


@pytest.fixture
def quick_pocket(tmp_path: Path) -> Path:
    """Pocket with few steps: a base's folder brings its own defaults."""
    from cnsctl.bases.folders import POCKET

    base = Path(shutil.copytree(POCKET, tmp_path / "pocket"))
    settings = json.loads((base / "cnsctl.json").read_text())
    settings["draw"]["steps"] = 1
    settings["learn"] |= {"steps": 5, "batch": 1}
    (base / "cnsctl.json").write_text(json.dumps(settings))
    return base


def test_the_tour_runs_line_by_line(request, tmp_path, quick_pocket):
    """With --full-tour: on pocket as it is, with all steps."""
    here = tmp_path / "here"
    here.mkdir()
    shutil.copytree(EXAMPLES, here / "examples")
    store = tmp_path / "store"
    if not request.config.getoption("--full-tour"):
        assert cnsctl("init", "--base", quick_pocket, *at(store)).code == 0
    lines = tour()
    assert len(lines) >= 12
    for line in lines:
        command = line if shutil.which("jq") else line.split("| jq")[0]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=here, capture_output=True, text=True,
            env=environment(CNSCTL_STORE=str(store), PATH=f"{_scripts(tmp_path)}:{environment()['PATH']}"),
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if request.config.getoption("--full-tour"):
            sys.stdout.write(f"$ {line}\n{done.stdout}{done.stderr}")
    assert len(list((here / "out").glob("*.png"))) == 4 + 2 + 1
    assert (here / "two.png").exists()
    assert json.loads((here / "eval.json").read_text())["concepts"][0]["name"] == "dog"
    assert cnsctl("ls", "-q", *at(store)).out == "topper\n"


def _scripts(tmp_path: Path) -> Path:
    """A folder with `cnsctl` in it that is this checkout's."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    script = folder / "cnsctl"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cnsctl "$@"\n')
    script.chmod(0o755)
    return folder


def test_links_and_pictures_of_the_documents_exist():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (ROOT / target).exists(), f"{page.name}: {target}"
