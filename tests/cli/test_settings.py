"""Every declared setting is a flag with its range and default in the help, and its range holds everywhere."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import typer
from commands import at, cnsctl

from cnsctl.bases.base_folder import POCKET, open_folder
from cnsctl.cli.main import make_app
from cnsctl.cli.options import flag
from cnsctl.errors import BaseModelError, InvalidSettingError
from cnsctl.settings import (
    ComputeSettings,
    ExportSettings,
    GenerateSettings,
    RequestSettings,
    TrainSettings,
    checked,
    settings_of,
)

TAKEN = [
    ("add", TrainSettings), ("gen", GenerateSettings), ("gen", RequestSettings), ("export", ExportSettings),
    *((verb, ComputeSettings) for verb in ("add", "score", "gen", "demo", "verify", "eval")),
]  # fmt: skip
TABLES = {"train": TrainSettings, "generate": GenerateSettings}


def out_of_range(setting):
    """Values just outside, and of other types."""
    if setting.choices:
        return ["other", ""]
    if setting.kind is bool:
        return [1, "yes"]
    if setting.kind is int:
        beside = [setting.low - 1, setting.high + 1, *([setting.low + 1] if setting.multiple_of > 1 else [])]
    else:
        beside = [math.nextafter(setting.low, -math.inf), math.nextafter(setting.high, math.inf), math.nan]
    return [*beside, "1", None, True]


def limits(setting):
    if setting.choices:
        return [str(choice) for choice in setting.choices]
    return [True, False] if setting.kind is bool else [setting.low, setting.high]


def every(*kinds):
    return [pytest.param(s, kind, id=f"{kind.__name__}.{s.name}") for kind in kinds for s in settings_of(kind).values()]


ALL = every(TrainSettings, GenerateSettings, ComputeSettings, RequestSettings, ExportSettings)


@pytest.mark.parametrize(("verb", "kind"), TAKEN)
def test_a_setting_has_a_flag_of_its_name_with_its_range_and_default_in_the_help(verb, kind):
    options = {name: p for p in typer.main.get_command(make_app()).commands[verb].params for name in p.opts}
    for setting in settings_of(kind).values():
        option = options[flag(setting.name)]
        assert option.help.startswith(setting.help)
        assert "[default: " in option.help
        if setting.choices:
            assert option.metavar == "|".join(setting.choices)
        elif setting.kind is not bool:
            assert f"({setting.allowed})" in option.help


@pytest.mark.parametrize(("setting", "kind"), ALL)
def test_python_refuses_a_value_out_of_range_and_takes_the_limits(setting, kind):
    for value in limits(setting):
        assert checked(kind, {setting.name: value}) == {setting.name: value}
    for value in out_of_range(setting):
        with pytest.raises(InvalidSettingError) as refused:
            checked(kind, {setting.name: value})
        err = refused.value
        assert (err.code, err.exit_status) == ("invalid-setting", 2)
        assert (err.name, err.allowed) == (setting.name, setting.allowed)


@pytest.mark.parametrize("kind", [TrainSettings, GenerateSettings, ComputeSettings, RequestSettings, ExportSettings])
def test_python_refuses_an_unknown_setting(kind):
    with pytest.raises(InvalidSettingError, match="unknown setting 'lr'"):
        checked(kind, {"lr": 1})


@pytest.mark.parametrize(("setting", "kind"), ALL)
def test_the_command_line_refuses_a_value_out_of_range(shared_store, images_of_two, setting, kind):
    line = {TrainSettings: ["add", "cat", images_of_two / "dog"], ExportSettings: ["export", "dog"]}.get(
        kind, ["gen", "x"]
    )
    for value in out_of_range(setting):
        if setting.kind is bool or (not setting.choices and not isinstance(value, (int, float))):
            continue  # flags without a value; text, which typer refuses
        if value is True:
            continue
        done = cnsctl(*line, f"{flag(setting.name)}={value}", "--json", *at(shared_store))
        error = json.loads(done.err)
        assert (done.code, error["code"]) == (2, "invalid-setting")
        wrong = f"unknown {setting.name} '{value}'" if setting.choices else f"{setting.name} is out of range: {value}"
        assert error["message"] == wrong
        assert setting.allowed in error["note"]
        assert flag(setting.name) in error["hint"]


@pytest.fixture
def folder(tmp_path):
    """Enough of a base model's folder to read its defaults."""
    shutil.copy(POCKET / "model_index.json", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("setting", "kind"), every(*TABLES.values()))
def test_the_file_of_a_base_model_refuses_a_value_out_of_range_and_takes_the_limits(folder, setting, kind):
    (table,) = [name for name, of_table in TABLES.items() if of_table is kind]
    for value in limits(setting):
        (folder / "cnsctl.json").write_text(json.dumps({table: {setting.name: value}}))
        assert getattr(open_folder(folder), table)[setting.name] == value
    for value in out_of_range(setting):
        (folder / "cnsctl.json").write_text(json.dumps({table: {setting.name: value}}))
        with pytest.raises(BaseModelError) as refused:
            open_folder(folder)
        assert refused.value.code == "base-model"
        assert setting.name in refused.value.what
        assert table in refused.value.what
        assert setting.allowed in refused.value.note


def test_a_store_is_not_created_on_a_base_model_with_a_setting_out_of_range(folder, tmp_path):
    (folder / "cnsctl.json").write_text(json.dumps({"generate": {"steps": 0}}))
    done = cnsctl("init", "--base", folder, "--json", *at(tmp_path / "store"))
    error = json.loads(done.err)
    assert (done.code, error["code"]) == (1, "base-model")
    assert "generate: steps is out of range: 0" in error["message"]
    assert not (tmp_path / "store").exists()
