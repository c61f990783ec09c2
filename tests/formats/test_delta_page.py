"""The page about delta files is true: its reader reads what cnsctl writes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from store_samples import make_delta

from cnsctl.formats import delta
from cnsctl.formats.bundle import FORMAT as BUNDLE_FORMAT
from cnsctl.formats.bundle import BaseReference, BundledConcept

PAGE = (Path(__file__).parents[2] / "docs/reference/delta-format.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
WIDE = {"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (320, 768)}


def reader():
    names = {}
    exec(CODE, names)  # noqa: S102  the page's own code
    return names["read"]


@pytest.mark.parametrize(
    "given",
    [
        make_delta(1),
        make_delta(2, vectors=3, density=0.9),
        make_delta(3, density=0),
        make_delta(4, sites=WIDE, density=0.0005),  # two bytes per code
        make_delta(5, sites=WIDE, density=0.01),  # gaps of several codes
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_reader_of_the_page_reads_a_delta_as_cnsctl_does(tmp_path, given):
    path = tmp_path / "dog.safetensors"
    path.write_bytes(delta.write(given))
    meta, indices, tensors = reader()(path)
    found = delta.read(path.read_bytes())
    assert meta["shapes"] == {site: list(shape) for site, shape in found.shapes.items()}
    assert (meta["class_word"], meta["fingerprint"], meta["mode"]) == (found.class_word, found.fingerprint, found.mode)
    assert meta["recipe"] == dict(found.recipe)
    assert set(indices) == set(found.indices)
    for site in indices:
        assert np.array_equal(indices[site], found.indices[site])
        assert tensors[f"{site}.values"].tobytes() == found.values[site].tobytes()
    for encoder, table in found.vectors.items():
        assert np.array_equal(tensors[f"vectors.{encoder}"], table)


def test_the_reader_of_the_page_has_25_lines_at_most():
    assert len(CODE.splitlines()) <= 25


def keys_of(table):
    """The first column of the table under this heading of a column."""
    rows = PAGE.split(f"| {table} |")[1].split("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \|", rows, flags=re.MULTILINE)


def test_the_page_lists_every_key():
    assert set(keys_of("key")) == delta._META
    assert keys_of("key of the manifest") == ["format", "kind", "base", "concepts"]
    assert f"| `format` | {delta.FORMAT}. " in PAGE
    assert f"| `format` | {BUNDLE_FORMAT}. " in PAGE.split("## Bundle")[1]
    for record in (BaseReference, BundledConcept):
        assert all(f"`{field.name}`" in PAGE.split("## Bundle")[1] for field in dataclasses.fields(record))
