"""The page of the Python API: its examples run, and it names everything that is public, with its signature."""

from __future__ import annotations

import inspect
import re
import shutil
from enum import Enum
from pathlib import Path

import pytest
from tiny import EXAMPLES

import cnsctl
from cnsctl.cli.main import GROUPS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
CLASSES = (cnsctl.Store, cnsctl.Session, cnsctl.Run, cnsctl.AppliedConcept)


@pytest.mark.slow
def test_the_examples_run_in_order(package, tmp_path, monkeypatch, capsys, any_quality):
    here = tmp_path / "here"
    here.mkdir()
    shutil.copytree(EXAMPLES, here / "examples")
    monkeypatch.chdir(here)
    names: dict[str, object] = {}
    examples = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert len(examples) >= 9
    for example in examples:
        exec(compile(example, "python.md", "exec"), names)  # noqa: S102  the page's own code
    assert sorted(p.name for p in here.glob("*.png")) == ["dog.png", *(f"image-{k}.png" for k in range(4))]
    shown = capsys.readouterr().out
    for comment in re.findall(r"print\(.*\)  # (.*)", PAGE):
        assert comment in shown.splitlines()


def signature(function) -> str:
    """As the page writes it: without types; enums as their words."""
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]
    plain = [
        p.replace(default=p.default.value) if isinstance(p.default, Enum) else p for p in parameters if p.name != "self"
    ]
    return str(inspect.Signature(plain))


def public_names() -> list[str]:
    names = []
    for name in cnsctl.__all__:
        value = getattr(cnsctl, name)
        names.append(name + (signature(value) if inspect.isfunction(value) else ""))
    for kind in CLASSES:
        for name, value in vars(kind).items():
            if inspect.isfunction(value) and not name.startswith("_"):
                names.append(f"{kind.__name__}.{name}{signature(value)}")
    return names


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_has_a_heading_with_its_signature(name):
    assert f"\n### `{name}`\n" in PAGE


def test_nothing_else_has_a_heading():
    assert sorted(re.findall(r"^### `(.*)`$", PAGE, flags=re.MULTILINE)) == sorted(public_names())


def test_every_command_has_its_twin_or_is_for_the_shell_alone():
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE))
    assert rows == {verb for verbs in GROUPS.values() for verb in verbs} - {"demo", "completion"}


def test_errors_that_the_page_names_exist():
    named = set(re.findall(r"\b\w+Error\b", PAGE))
    assert named
    assert {name for name in named if not hasattr(cnsctl.errors, name)} == set()
