"""Imports point one way: cli → app → {engine, store} → {bases, formats, data, metrics, report} → {specs, results, errors}."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import cnsctl

ROOT = Path(cnsctl.__file__).parent
BOTTOM = {"specs", "results", "errors"}
LEAVES = {"bases", "formats", "data", "metrics", "report"}
MAY = {
    "specs": set(),
    "errors": set(),
    "results": {"specs"},
    **dict.fromkeys(LEAVES, BOTTOM),
    "engine": BOTTOM | LEAVES,
    "store": BOTTOM | LEAVES,
    "app": BOTTOM | LEAVES | {"engine", "store"},
    "cli": BOTTOM | {"app"},
    "__main__": {"cli"},
}
MODULES = sorted(p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).as_posix() != "__init__.py")


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{a.name}" for a in node.names}
    return names


def for_types(tree: ast.Module) -> set[str]:
    """What is imported for type checking alone."""
    blocks = [n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
    return set().union(*(imported(b) for b in blocks)) if blocks else set()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_only_to_the_right(path):
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    tree = ast.parse(path.read_text())
    names = imported(tree)
    if layer == "cli":
        names -= for_types(tree)  # a verb may name the store's type; it may not touch a store
    ours = {n.split(".")[1] for n in names if n.startswith("cnsctl.")} - {"__version__"}
    assert ours - {layer} <= MAY[layer]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_diffusers_and_transformers_stay_in_bases(path):
    layer = path.relative_to(ROOT).parts[0]
    tops = {n.split(".")[0] for n in imported(ast.parse(path.read_text()))}
    if layer != "bases":
        assert not tops & {"diffusers", "transformers", "accelerate"}
    if layer not in ("bases", "engine", "app"):
        assert "torch" not in tops
    if layer != "cli":
        assert not tops & {"typer", "rich"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_module_says_what_it_owns(path):
    doc = ast.get_docstring(ast.parse(path.read_text()))
    assert doc, "two lines on top: what it owns, what it must not know"
