"""What is released has one version, and the wheel and the sdist get the files that they need (`make dist` builds them)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import cnsctl
from cnsctl.cli.completion import SHELLS

ROOT = Path(__file__).parents[1]
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TARGETS = BUILD["tool"]["hatch"]["build"]["targets"]
INSTALLED = {
    "bash": "share/bash-completion/completions/cnsctl",
    "zsh": "share/zsh/site-functions/_cnsctl",
    "fish": "share/fish/vendor_completions.d/cnsctl.fish",
}
"""Where each shell looks for completions, under a prefix."""


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere():
    assert BUILD["project"]["dynamic"] == ["version"]
    assert BUILD["tool"]["hatch"]["version"]["path"] == "cnsctl/__init__.py"
    (cited,) = re.findall(r"^version: (.+)$", text("CITATION.cff"), re.MULTILINE)
    (released,) = re.findall(r"^date-released: (.+)$", text("CITATION.cff"), re.MULTILINE)
    unreleased, latest = re.findall(r"^## (.+)$", text("CHANGELOG.md"), re.MULTILINE)[:2]
    assert cited == cnsctl.__version__
    assert f"\nStatus: {cnsctl.__version__}, " in text("README.md")
    assert (unreleased, latest) == ("[Unreleased]", f"[{cnsctl.__version__}] - {released}")


def test_completions_of_every_shell_are_installed_where_it_looks():
    shared = TARGETS["wheel"]["shared-data"]
    assert set(shared.values()) == {INSTALLED[shell] for shell in SHELLS}
    for source, target in shared.items():
        assert Path(source).name.removesuffix(".bash") == Path(target).name
        assert "cnsctl" in text(source)


def test_the_wheel_contains_the_whole_package():
    """No file of the package is hidden from the build, which leaves out what git ignores."""
    assert TARGETS["wheel"] == {"packages": ["cnsctl"], "shared-data": TARGETS["wheel"]["shared-data"]}
    assert (ROOT / "cnsctl" / "py.typed").exists()
    assert all((ROOT / name).is_file() for name in BUILD["project"]["license-files"])
    ignored = {line.strip("/") for line in text(".gitignore").splitlines()} - {"__pycache__"}
    files = [path.relative_to(ROOT) for path in (ROOT / "cnsctl").rglob("*") if path.is_file()]
    assert [file for file in files if any(file.match(name) or set(file.parts) & {name} for name in ignored)] == []


def test_the_sdist_contains_everything_that_a_clone_has():
    """A clone's folders and documents, apart from what concerns git and CI alone."""
    included = [*TARGETS["sdist"]["include"], *TARGETS["sdist"]["force-include"].values()]
    there = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} - {
        "dist",
        "build",
        "demo",
        "lease",
        "learning.bench",
    }
    assert {name for name in there if not any(Path(name).match(pattern) for pattern in included)} == {"pyproject.toml"}
    assert [pattern for pattern in included if not list(ROOT.glob(pattern))] == []
    moved = TARGETS["sdist"]["force-include"]
    assert [source for source in moved if source.startswith("cnsctl/")] == [], "the wheel would lack it"
