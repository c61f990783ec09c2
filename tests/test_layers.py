"""Imports point one way, and heavy libraries are imported late.

`{cli, api} → app → {engine, store} → {bases, formats, data, metrics, report} →
{settings, sampler_names, export_formats, key_names, concept, events, results, errors}`
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from store_samples import add, new_store

import cnsctl

ROOT = Path(cnsctl.__file__).parent
BOTTOM = {
    "settings", "sampler_names", "export_formats", "key_names", "home_folder", "concept", "events", "results", "errors",
}  # fmt: skip
LEAVES = {"bases", "formats", "data", "metrics", "report"}
MAY = {
    "__main__": {"cli"},
    "__init__": set(),
    "cli": {"app", *BOTTOM},
    "api": {"app", *BOTTOM},
    "app": {"engine", "store", *LEAVES, *BOTTOM},
    "engine": LEAVES | BOTTOM,
    "store": {"formats", "data", *BOTTOM},
    **dict.fromkeys(LEAVES, BOTTOM),
    "settings": {"errors", "sampler_names", "export_formats"},
    "events": {"errors"},
    "home_folder": {"errors"},
    **{layer: set() for layer in BOTTOM - {"settings", "events", "home_folder"}},
}
"""Per layer: the layers that it may import."""

ONLY_IN = {
    "diffusers": {"bases"},
    "transformers": {"bases"},
    "accelerate": {"bases"},
    "torch": {"bases", "engine", "app"},
    "typer": {"cli"},
    "rich": {"cli"},
    "tinydb": {"store"},
    "PIL": {"api", "app", "bases", "cli", "data", "report"},
}
"""Per library: the layers that may import it."""

HEAVY = {"torch", "numpy", "diffusers", "transformers", "accelerate", "safetensors", "PIL"}
"""Libraries that no command needs for a list, a help page or completion."""

MODULES = sorted(ROOT.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Names of all imported modules and objects."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def for_types(tree: ast.Module) -> set[str]:
    """Names that are imported for type checking only."""
    blocks = [n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
    return set().union(*map(imported, blocks))


def at_import(tree: ast.Module) -> set[str]:
    """Names that are imported as soon as the module is."""
    late = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return imported(tree) - for_types(tree) - set().union(*map(imported, late))


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in MODULES}


def test_imports_point_only_to_the_right():
    wrong = {}
    for path, tree in trees().items():
        layer, names = layer_of(path), imported(tree)
        if layer in ("__init__", "api", "cli"):
            names -= for_types(tree)  # they may name the types of lower layers
        ours = {name.split(".")[1] for name in names if name.startswith("cnsctl.")} - {"__version__"}
        wrong |= {path: ours - {layer} - MAY[layer]}
    assert {path: found for path, found in wrong.items() if found} == {}


def test_libraries_are_imported_only_by_their_layers():
    """And `app` imports heavy ones inside functions."""
    wrong = {}
    for path, tree in trees().items():
        layer, used = layer_of(path), tops(imported(tree) - for_types(tree))
        found = {library for library in used & set(ONLY_IN) if layer not in ONLY_IN[library]}
        wrong |= {path: found | (tops(at_import(tree)) & HEAVY if layer == "app" else set())}
    assert {path: found for path, found in wrong.items() if found} == {}


def test_every_module_has_a_docstring():
    assert [path for path, tree in trees().items() if not ast.get_docstring(tree)] == []


def test_every_layer_is_in_the_table():
    assert {layer_of(path) for path in MODULES} == set(MAY)


def test_pocket_does_not_import_cnsctl():
    for path in (ROOT.parent / "pocket").rglob("*.py"):
        assert "cnsctl" not in tops(imported(ast.parse(path.read_text()))), path


def loaded_by(code: str, *arguments: object) -> set[str]:
    """Libraries that are imported after the code has run in a new process."""
    code += "\nprint('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-c", "import sys\n" + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_and_its_settings_imports_no_heavy_library():
    code = "import cnsctl\nfor name in cnsctl.__all__: getattr(cnsctl, name)"
    found = loaded_by(code)
    assert "cnsctl" in found
    assert not found & {*HEAVY, "typer", "rich", "tinydb"}


RUN = """
from cnsctl.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code in (0, None), end.code
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["add", "--help"],
        ["gen", "--help"],
        ["eval", "--help"],
        ["completion", "bash"],
        ["ls"],
        ["ls", "--json"],
        ["show", "dog"],
        ["mv", "dog", "rex"],
        ["rm", "-y", "dog"],
    ],
    ids=" ".join,
)
def test_light_commands_import_no_heavy_library(tmp_path, monkeypatch, arguments):
    add(new_store(tmp_path / "s"), "dog")
    monkeypatch.setenv("CNSCTL_STORE", str(tmp_path / "s"))
    allowed = {"numpy"} if arguments[0] == "rm" else set()  # removal updates the ownership index
    assert loaded_by(RUN, *arguments) & {*HEAVY, "rich"} <= allowed


def test_a_command_loads_only_the_results_that_it_needs(tmp_path, monkeypatch):
    add(new_store(tmp_path / "s"), "dog")
    monkeypatch.setenv("CNSCTL_STORE", str(tmp_path / "s"))
    loaded_by(
        RUN + "assert 'cnsctl.results.store' in sys.modules\nassert 'cnsctl.results.care' not in sys.modules", "ls"
    )


def test_the_audit_above_detects_a_heavy_library():
    assert "numpy" in loaded_by("import cnsctl.store.index")
