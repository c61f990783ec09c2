"""The recipes of CONTRIBUTING are true: one file and one registered line are enough, for each kind of addition."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import at, cnsctl
from safetensors.numpy import save_file
from store_samples import make_delta

import cnsctl as package
from benchmarks.learning import bench as bench_module
from benchmarks.learning.bench import Bench, Variant
from benchmarks.learning.rows import row_alone
from benchmarks.learning.selections import SELECTIONS
from cnsctl import create_store, errors, formats, results
from cnsctl.app import evaluate
from cnsctl.bases import base_folder, devices, registry
from cnsctl.cli import main, verbs
from cnsctl.formats.delta import write

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
RECIPES = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Recipes")[-1].split("\n## ")[0]

# ------------------------------------------------------------------------------------------- a family of base models


@pytest.fixture
def other_family(monkeypatch):
    """A family whose folders have an `OtherUNet`; its components are those of `sd1`."""
    import diffusers

    monkeypatch.setattr(diffusers, "OtherUNet", diffusers.UNet2DConditionModel, raising=False)
    sd1 = registry.FAMILIES[0]
    parts = tuple(
        dataclasses.replace(part, kind="diffusers.OtherUNet") if part.name == sd1.denoiser else part
        for part in sd1.parts
    )
    declared = dataclasses.replace(sd1, name="other", title="Other", pipelines=("OtherPipeline",), parts=parts)
    monkeypatch.setattr(registry, "FAMILIES", (*registry.FAMILIES, declared))
    return declared


@pytest.fixture
def other_folder(tiny_folder, tmp_path):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "other"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(
        json.dumps(index | {"_class_name": "OtherPipeline", "unet": ["diffusers", "OtherUNet"]})
    )
    return folder


def test_a_family_is_one_declaration_in_the_registry(other_family, other_folder, tmp_path, images_of_two):
    folder = base_folder.open_folder(other_folder)
    device, dtype = devices.choose("cpu", "fp32")
    loaded = registry.load(folder, device=device, dtype=dtype)
    assert loaded.family == other_family.name
    store = create_store(tmp_path / "store", base=other_folder)
    assert store.list().base.family == "other"
    with store.load() as session:
        session.train("dog", images_of_two / "dog", steps=2, measure=False).result()
        assert session.generate("<dog> on a beach").size == (32, 32)
        assert not session.verify().concepts[0].forgotten


def test_a_family_that_is_not_registered_is_refused_by_its_name(other_folder):
    with pytest.raises(errors.BaseModelError, match="is a OtherPipeline"):
        base_folder.open_folder(other_folder)


# ----------------------------------------------------------------------------------------------------- a file format

NEGATED = '''
"""W − W₀ of each site with the other sign, as another program could write it."""

from cnsctl.export_formats import ExportFormat
from cnsctl.formats.contents import Incoming

NAME = ExportFormat.DIFF


def matches(header):
    return any(key.endswith(".negated") for key in header.entries)


def read(file, shapes):
    return Incoming(
        format="negated",
        weights={site: lambda site=site: -file.read(site + ".negated") for site in shapes},
        shapes=shapes,
        differences=True,
        vectors={},
    )
'''


def test_a_format_is_one_module_in_the_list(tmp_path, monkeypatch):
    (tmp_path / "negated.py").write_text(NEGATED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(formats, "FORMATS", [*formats.FORMATS, "negated"])
    import negated

    path = tmp_path / "dog.safetensors"
    save_file({"a.negated": np.ones((2, 3), np.float32)}, path)
    assert formats.detect(path) is negated
    with formats.opened(path, {"a": (2, 3)}) as found:
        assert (found.weights["a"]() == -1).all()
    path.write_bytes(write(make_delta(1)))
    assert formats.detect(path).__name__ == "cnsctl.formats.delta"


# --------------------------------------------------------------------------------------------------------- a command

HELLO = '''
"""`cnsctl hello`: say hello."""

from typing import Annotated

import typer

from cnsctl.cli import options
from cnsctl.settings import GenerateSettings


@options.with_settings(settings=(GenerateSettings, ("sampler",)))
def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom to greet")],
    *,
    settings: dict,
) -> None:
    """Print a greeting.

    Example:  cnsctl hello dog
    """
    print(f"hello {name}", *settings.values())
'''


def test_a_command_is_one_module_and_its_name_in_a_group(tmp_path, monkeypatch):
    (tmp_path / "hello.py").write_text(HELLO)
    monkeypatch.setattr(verbs, "__path__", [*verbs.__path__, str(tmp_path)])
    monkeypatch.setattr(main, "GROUPS", {**main.GROUPS, "Inspect": (*main.GROUPS["Inspect"], "hello")})
    shown = cnsctl("--help").out
    assert re.search(r"Inspect:(?:\n  .*)+\n  hello +Print a greeting", shown)
    assert cnsctl("hello", "dog", "--sampler", "euler").out == "hello dog euler\n"
    assert "--sampler" in cnsctl("hello", "--help").out
    for shell in ("bash", "zsh", "fish"):
        assert "hello" in cnsctl("completion", shell).out
    wrong = cnsctl("hello")
    assert wrong.code == 2
    assert wrong.err.startswith("error[usage]: ")


# ---------------------------------------------------------------------------------------------------------- a metric


def test_a_metric_is_a_field_of_the_result_and_becomes_a_key_of_the_json(stocked, monkeypatch):
    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Evaluated(results.Evaluated):
        brightness: float
        """Mean of the concept's images, of 255 levels."""

    filled = evaluate._evaluated

    def with_brightness(session, record, *measured):
        row = filled(session, record, *measured)
        fields = {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
        return Evaluated(**fields, brightness=float(np.mean([pixels.mean() for pixels in session.references(record)])))

    monkeypatch.setattr(evaluate, "_evaluated", with_brightness)
    (row,) = cnsctl("eval", "dog", "--no-images", "--json", *at(stocked)).json["concepts"]
    assert row["name"] == "dog"
    assert 0 < row["brightness"] < 255
    with package.open_store(stocked).load() as session:
        assert [r.brightness for r in session.evaluate("dog", images=False).concepts] == [row["brightness"]]


# ----------------------------------------------------------------------------------------------------------- a rival


def test_a_rival_is_one_entry_of_the_selections_and_gives_a_row_as_all_do(tiny, tiny_folder, monkeypatch, tmp_path):
    """The whole first site, named by a variant as every selection is."""
    first, asked = next(iter(tiny.sites)), []

    def one_site(base, job, _embeddings, _weights):
        asked.append(job.name)
        return {site: torch.arange(W.numel() if site == first else 1) for site, W in base.sites.items()}

    monkeypatch.setitem(SELECTIONS, "one site", one_site)
    pixels = bench_module.training_pixels("blue-fox")[:2, ::4, ::4]  # the tiny base's size
    monkeypatch.setattr(bench_module, "training_pixels", lambda _name: pixels)
    bench = Bench(tiny, tmp_path, folder=tiny_folder, steps=4, noises=(1, 2))
    monkeypatch.setattr(bench, "scenes_of", lambda _name: bench.training_scenes("blue-fox")[:1])
    row = row_alone(bench, "the first site", Variant(selection="one site"), ["blue-fox"])
    assert asked == ["blue-fox"]
    assert row.name == "the first site"


# --------------------------------------------------------------------------------------------------------- the table


def named_registers() -> list[tuple[str, str]]:
    """Each file and the name in it that a recipe extends: `cli/main.py`: `GROUPS`."""
    return re.findall(r"`([\w/]+\.py)`: `(\w+)`", RECIPES)


def test_the_recipes_name_registers():
    assert len(named_registers()) >= 3


@pytest.mark.parametrize(("file", "name"), named_registers())
def test_a_register_that_the_recipes_name_exists(file, name):
    (path,) = [p for p in (ROOT / file, ROOT / "cnsctl" / file) if p.is_file()]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    targets = [t for n in tree.body for t in (n.targets if isinstance(n, ast.Assign) else [getattr(n, "target", None)])]
    assert name in {t.id for t in targets if isinstance(t, ast.Name)}
