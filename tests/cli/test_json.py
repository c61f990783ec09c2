"""The JSON of every command has the keys of its class in `cnsctl.results`, in their order, and no others."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from commands import at, cnsctl

from cnsctl import results

LINES = {
    "phase": ["phase", "total", "unit"],
    "step": ["phase", "step", "total", "loss", "loss_first", "loss_now"],
    "denoised": ["step", "total", "images"],
    "sheet": ["path"],
    "preview": ["step", "path", "prompts"],
    "note": ["text"],
    "warning": ["text"],
    "failed": ["prompt", "code", "message", "note", "hint"],
    "image": ["path", "seed", "prompt", "concepts"],
    "selected": ["neurons", "share", "shared", "shared_random"],
}
"""Keys of JSON lines by type, beside `format` and `type`."""


def assert_is(value: Any, kind: Any) -> None:
    """A JSON value is of a declared type, and its objects have exactly the declared keys."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (rest,) = [k for k in inner if k is not type(None)] if value is not None else [type(None)]
        assert_is(value, rest) if value is not None else None
    elif origin is tuple:
        assert isinstance(value, list)
        for one in value:
            assert_is(one, inner[0])
    elif origin is Mapping:
        assert isinstance(value, dict)
        if get_origin(inner[1]) not in (Union, types.UnionType):
            for one in value.values():
                assert_is(one, inner[1])
    elif is_dataclass(kind):
        hints = get_type_hints(
            kind, localns={"Mapping": Mapping, **{name: getattr(results, name) for name in results.__all__}}
        )
        declared = [f.name for f in fields(kind) if f.name in value or not f.metadata.get(results.ONLY_IF_SET)]
        assert list(value) == declared, kind
        for name, one in value.items():
            assert_is(one, hints[name])
    else:
        assert isinstance(value, (int, float) if kind is float else kind), (value, kind)


def assert_result(data: dict[str, Any], kind: type) -> None:
    assert data["format"] == 1
    assert data.get("type") in (None, "result")
    assert_is({key: value for key, value in data.items() if key not in ("format", "type")}, kind)


def assert_lines(lines: list[dict[str, Any]], kind: type) -> set[str]:
    """JSON lines, the result last. Returns their types."""
    for line in lines[:-1]:
        assert list(line) == ["format", "type", *LINES[line["type"]]]
        assert line["format"] == 1
    assert lines[-1]["type"] == "result"
    assert_result(lines[-1], kind)
    return {line["type"] for line in lines[:-1]}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (["ls"], results.ListResult),
        (["show", "dog"], results.ShowResult),
        (["show", "dog", "--overlaps"], results.ShowResult),
        (["verify"], results.VerifyResult),
        (["eval", "dog"], results.EvaluateResult),
        (["eval", "dog", "--no-images"], results.EvaluateResult),
    ],
)
def test_results_of_reading_commands(shared_store, line, kind):
    assert_result(cnsctl(*line, "--json", *at(shared_store)).json, kind)


def test_result_of_score(shared_store, images_of_two):
    line = ("score", "cat", images_of_two / "hat", "--class", "cat", "--json")
    assert_result(cnsctl(*line, *at(shared_store)).json, results.ScoreResult)


def test_lines_of_add_and_its_result(stocked, images_of_two):
    line = ("add", "dog", images_of_two / "dog", "--replace", "--json", *at(stocked))
    kinds = assert_lines(cnsctl(*line).lines, results.TrainResult)
    assert kinds >= {"phase", "step", "selected", "note"}


def test_lines_of_gen_and_its_result(shared_store, tmp_path):
    done = cnsctl("gen", "-", "-o", tmp_path / "out", "--json", *at(shared_store), stdin="<dog>\n<cat>\n")
    assert assert_lines(done.lines, results.GenerateResult) == {"phase", "step", "image", "failed"}


def test_results_of_init_mv_and_rm(stocked, tiny_folder, tmp_path):
    created = cnsctl("init", "--base", tiny_folder, "--json", *at(tmp_path / "new"))
    assert_result(created.json, results.StoreResult)
    assert_result(cnsctl("mv", "hat", "cat", "--json", *at(stocked)).json, results.RenameResult)
    removed = cnsctl("rm", "dog", "-y", "--json", *at(stocked)).json
    assert_result(removed, results.RemoveResult)
    assert removed["touched"] == {}  # not in merged mode


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_the_result_of_demo(package, tmp_path):
    done = cnsctl("demo", "-o", tmp_path / "d", "--steps", 3, "--json")
    assert assert_lines(done.lines, results.DemoResult) >= {"phase", "step", "selected", "note"}


def test_a_warning_beside_a_result_is_json_on_stderr(stocked):
    (delta,) = [c["delta"] for c in [cnsctl("show", "dog", "--json", *at(stocked)).json]]
    from pathlib import Path

    Path(delta).unlink()
    done = cnsctl("ls", "--json", *at(stocked))
    assert_result(done.json, results.ListResult)
    assert list(json.loads(done.err)) == ["format", "type", "text"]
