"""The public names: lazy, complete, typed, with the command line's defaults."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest
from commands import at, cnsctl, environment

import cnsctl as package
from cnsctl import Session, Store, TrainSettings, create_store, restore_store
from cnsctl import doctor as diagnose
from cnsctl.cli.options import flags_of
from cnsctl.cli.verbs import (
    add,
    backup,
    check,
    doctor,
    export,
    gc,
    gen,
    info,
    init,
    migrate,
    mv,
    restore,
    rm,
    score,
    show,
    verify,
)
from cnsctl.cli.verbs import eval as evaluate
from cnsctl.settings import ComputeSettings, ExportSettings, GenerateSettings, settings_of

HEAVY = ("torch", "numpy", "diffusers", "transformers", "typer", "rich")
ROOT = Path(package.__file__).parent


def modules_after(code: str) -> set[str]:
    """Of the heavy packages, those that a fresh process has loaded after this code."""
    shown = f"{code}\nimport sys\nprint(*(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, env=environment(), check=True)
    return set(done.stdout.split())


def test_reading_a_store_loads_nothing_heavy(stocked):
    assert modules_after(f"import cnsctl\ns = cnsctl.open_store({str(stocked)!r})\ns.list(), s.show('dog')") == set()


def test_every_public_name_exists_and_is_listed():
    assert package.__all__ == sorted(package.__all__)
    assert set(dir(package)) == {*package.__all__, "__version__"}
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'stores'"):
        _ = package.stores


def test_type_checkers_see_the_public_names_that_python_loads():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        seen |= {alias.name: node.module for alias in node.names}
    assert sorted(seen) == package.__all__
    for name, module in seen.items():
        home = import_module(module)
        assert getattr(package, name) is getattr(home, name, None) or module == "cnsctl"


def test_the_package_says_that_it_is_typed():
    assert (files("cnsctl") / "py.typed").is_file()


def public(kind: type):
    return [f for name, f in vars(kind).items() if not name.startswith("_") and inspect.isfunction(f)]


@pytest.mark.parametrize(
    "function",
    [
        *public(Store),
        *public(Session),
        *public(package.Run),
        package.open_store,
        create_store,
        restore_store,
        package.apply_concept,
    ],
    ids=lambda f: f.__qualname__,
)
def test_every_public_function_documents_its_arguments(function):
    doc = inspect.getdoc(function) or ""
    for name in inspect.signature(function).parameters:
        assert name == "self" or f"\n    {name}: " in doc or function.__name__ in ("rename", "result"), name


TWINS = {
    "add": (add, Session.train, {}),
    "score": (score, Session.score, {}),
    "gen": (gen, Session.generate_many, {}),
    "info": (info, package.info, {"files": "paths"}),
    "show": (show, Store.show, {"names": "name"}),
    "mv": (mv, Store.rename, {}),
    "rm": (rm, Store.remove, {}),
    "check": (check, Store.check, {}),
    "gc": (gc, Store.gc, {}),
    "backup": (backup, Store.backup, {"force": "force"}),
    "restore": (restore, restore_store, {"store": "path"}),
    "migrate": (migrate, Store.migrate, {}),
    "doctor": (doctor, diagnose, {"store": "path"}),
    "init": (init, create_store, {"store": "path"}),
    "verify": (verify, Session.verify, {}),
    "eval": (evaluate, Session.evaluate, {}),
    "export": (export, Store.export, {"output": "output", "force": "force"}),
}
"""Verb → its module, its twin, and parameters of another name."""

OF_THE_TERMINAL = {
    "store", "as_json", "json_steps", "quiet", "verbose", "yes", "output", "force", "skip_existing", "open_preview", "every"
}  # fmt: skip
OF_THE_STORE = {"wait"}
"""Keywords of `open_store`."""


@pytest.mark.parametrize("verb", TWINS)
def test_defaults_are_those_of_the_command_line(verb):
    module, twin, renamed = TWINS[verb]
    taken = inspect.signature(twin).parameters
    declared = {
        s.name for kind in (TrainSettings, GenerateSettings, ExportSettings, ComputeSettings) for s in flags_of(kind)
    }
    compared = 0
    if verb == "add":
        assert set(inspect.signature(Session.train_list).parameters) - {"self"} <= {"from_list", *taken}
    for name, parameter in inspect.signature(module.command).parameters.items():
        if name == "from_list":  # Session.train_list
            continue
        if (name in declared and name not in taken) or (name in OF_THE_TERMINAL | OF_THE_STORE and name not in renamed):
            continue
        if (positive := name.removeprefix("no_")) != name:  # --no-preview is preview=False
            assert (taken[positive].default, parameter.default) == (True, False)
            compared += 1
            continue
        own = taken[renamed.get(name, name)]
        if own.kind is not inspect.Parameter.VAR_POSITIONAL and parameter.default is not parameter.empty:
            assert own.default == parameter.default or parameter.default is None, name
        compared += 1
    given = {renamed.get(n, n.removeprefix("no_")) for n in inspect.signature(module.command).parameters}
    extra = set(taken) - {"self", "settings"} - given
    assert compared
    assert not extra, "the twin takes what the command line does not"


def test_a_setting_has_one_default_for_both(stocked, images_of_two):
    """Neither side gives one: the recipe contains what acted."""
    by_command = package.open_store(stocked).show("dog").recipe
    declared = {f.name for f in dataclasses.fields(TrainSettings)}
    with package.open_store(stocked).load() as session:
        session.train("cat", images_of_two / "dog", class_word="dog").result()
    by_python = package.open_store(stocked).show("cat").recipe
    assert declared <= set(by_python)
    assert by_python == by_command


def test_the_device_and_the_dtype_have_the_defaults_of_the_settings():
    taken = inspect.signature(Store.load).parameters
    assert {n: taken[n].default for n in settings_of(ComputeSettings)} == dataclasses.asdict(ComputeSettings())


def test_create_store_takes_pocket_by_name(package, tmp_path):
    """The fixture's package contains a tiny base as pocket."""
    store = create_store(tmp_path / "store", base="pocket", mode="merged")
    assert (store.path, store.mode) == (tmp_path / "store", "merged")
    assert store.list().mode == "merged"
    assert cnsctl("ls", "-q", *at(tmp_path / "store")).code == 0


def test_a_store_is_where_the_environment_says(stocked, monkeypatch):
    monkeypatch.setenv("CNSCTL_STORE", str(stocked))
    assert package.open_store().path == stocked
    assert repr(package.open_store()) == f"Store({str(stocked)!r}, mode='token')"
