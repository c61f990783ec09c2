"""Errors: the library gives reasons, and the command line maps each of them to advice with flags that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import at, cnsctl

import cnsctl as package
from cnsctl.cli.hints import HINTS, hint_of
from cnsctl.cli.main import make_app
from cnsctl.errors import CnsctlError

ROOT = Path(package.__file__).parent
MODULES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


def strings(node: ast.AST, module: ast.Module) -> set[str]:
    """The texts in an expression, also those of the variables and functions of the module that it uses."""
    found: set[str] = set()
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    for part in ast.walk(module):
        if isinstance(part, ast.Assign) and any(isinstance(t, ast.Name) and t.id in names for t in part.targets):
            found |= strings(part.value, ast.Module([], []))
        if isinstance(part, ast.FunctionDef) and part.name in names:
            for back in (n for n in ast.walk(part) if isinstance(n, ast.Return) and n.value is not None):
                found |= strings(back.value, ast.Module([], []))
    if isinstance(node, ast.IfExp):  # not the texts of its condition
        return found | strings(node.body, module) | strings(node.orelse, module)
    return found | {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def errors_with(keyword: str):
    """Calls with this keyword, and its texts: (module, call, texts)."""
    for name, module in MODULES.items():
        for call in (n for n in ast.walk(module) if isinstance(n, ast.Call)):
            for given in call.keywords:
                if given.arg == keyword:
                    yield name, call, strings(given.value, module)


@pytest.mark.parametrize("keyword", ["hint", "note"])
def test_the_library_does_not_name_flags_or_commands(keyword):
    found = [
        (module, text)
        for module, _, texts in errors_with(keyword)
        for text in texts
        if not module.startswith("cli/") and re.search(r"(?<!wsl )--|\bcnsctl [a-z]", text)
    ]
    assert found == []


def test_every_reason_has_advice_and_every_advice_a_reason():
    used: set[str] = set()
    for _, call, reasons in errors_with("reason"):
        used |= reasons
        if "hint" not in {given.arg for given in call.keywords}:
            assert reasons <= set(HINTS)
    assert set(HINTS) <= used


class Asked(dict[str, Any]):
    """Facts that remember which of them were used."""

    def __missing__(self, key: str) -> str:
        self[key] = "x"
        return "x"


def test_an_error_carries_the_facts_that_its_advice_needs():
    for module, call, reasons in errors_with("reason"):
        for reason in reasons & set(HINTS):
            facts = Asked()
            HINTS[reason](facts)
            assert set(facts) <= {given.arg for given in call.keywords}, (module, reason)


@pytest.mark.parametrize("reason", HINTS)
def test_the_flags_and_verbs_of_an_advice_exist(reason):
    commands = typer.main.get_command(make_app()).commands
    flags = {name for command in commands.values() for p in command.params for name in p.opts}
    text = HINTS[reason](Asked(name="steps"))
    assert set(re.findall(r"(?<!\w)--?[a-z][a-z-]*", text)) <= flags | {"--upgrade"}
    assert set(re.findall(r"cnsctl ([a-z]+)", text)) <= set(commands)


def test_an_error_without_advice_for_its_reason_keeps_its_own_hint():
    assert hint_of(CnsctlError("x", hint="wait")) == "wait"
    assert hint_of(CnsctlError("x", hint="wait", reason="base-missing")) == HINTS["base-missing"]({})


def test_an_error_is_printed_as_code_message_note_and_hint(shared_store):
    done = cnsctl("gen", "x", "--steps", 0, *at(shared_store))
    assert done.err == (
        "error[invalid-setting]: steps is out of range: 0\n  note: allowed: 1 to 999\n  hint: change --steps\n"
    )
    assert done.out == ""


def test_an_error_without_a_note_or_hint_does_not_print_empty_lines(shared_store):
    lines = cnsctl("show", "zzzzzz", *at(shared_store)).err.splitlines()
    assert lines[0].startswith("error[concept-not-found]: ")
    assert all(re.match(r"  (note|hint): \S", line) for line in lines[1:])


def test_json_errors_have_the_same_parts(shared_store):
    import json

    error = json.loads(cnsctl("gen", "x", "--steps", 0, "--json", *at(shared_store)).err)
    assert list(error) == ["format", "type", "code", "message", "note", "hint", "exit"]
    assert (error["format"], error["type"], error["code"], error["exit"]) == (1, "error", "invalid-setting", 2)
    assert error["message"] == "steps is out of range: 0"
    assert (error["note"], error["hint"]) == ("allowed: 1 to 999", "change --steps")
