"""The formats of 0.1.0 are frozen: this version and every later one reads their golden files.

`frozen_formats.py` has written them. Each format has its page in `docs/reference/`.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_samples import overlay, synthetic
from frozen_formats import (
    BASE,
    BUNDLE_FILE,
    BUNDLED_BASE,
    CLIP,
    CONCEPTS,
    DELTA,
    DELTA_FILE,
    FOLDER,
    STATE,
    bundled,
    json_keys,
)
from store_samples import CREATED, N_WEIGHTS, add, assert_sound, fields, manifest_of, same_delta, write_manifest

from cnsctl.app import doctor
from cnsctl.app.restore import restore
from cnsctl.concept import Mode
from cnsctl.data.png import png_pixels, read_png_text
from cnsctl.engine import training_state
from cnsctl.engine.proof import prove
from cnsctl.engine.training_state import state_from_bytes, state_to_bytes
from cnsctl.errors import CnsctlError, FormatTooNewError
from cnsctl.events import result_of
from cnsctl.formats import bundle, canonical, delta
from cnsctl.store import Store, catalogue, manifest
from cnsctl.store.seal import sealed

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = {
    "store": "store-format.md", "catalogue": "store-format.md", "index": "store-format.md", "state": "store-format.md",
    "delta": "delta-format.md", "bundle": "delta-format.md", "backup": "backup-format.md", "probe": "probe-record.md", "png": "png-text.md",
    "json": "json.md",
}  # fmt: skip
"""The page of each format."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "store", tmp_path / "store"))


def test_each_format_has_the_number_of_its_golden_file_and_a_page_that_says_it():
    """Another number needs new golden files beside these, and a reader of both."""
    numbers = doctor.format_numbers()
    assert numbers == {
        "store": 3, "catalogue": 1, "delta": 1, "bundle": 1, "backup": 1, "index": 1, "probe": 1, "state": 2, "png": 1, "json": 1,
    }  # fmt: skip
    listed = (REFERENCE / "formats.md").read_text(encoding="utf-8")
    for name, number in numbers.items():
        assert (REFERENCE / PAGES[name]).exists()
        assert re.search(rf"\[[^]]+\]\({PAGES[name]}[^)]*\)[^|]*\| `{name}` \| {number} \|", listed), name


# store.json, catalogue and index


def test_the_golden_store_is_read_with_all_that_it_contains(store):
    assert assert_sound(store) == ["dog", "topper"]
    found = Store.open(store)
    assert (found.base, found.mode, found.created, found.clip, found.judge) == (BASE, Mode.PROMPT, CREATED, CLIP, None)
    for record, (name, wanted) in zip(found.concepts(), CONCEPTS.items(), strict=True):
        assert same_delta(found.delta(record), wanted)
        assert [found.blob(sha) for sha in record["references"]] == [b"png of " + name.encode(), b"second"]
        assert found.blob(record["probe"]) == b"probe of " + name.encode()
        kept = fields(name, wanted)
        assert json.loads(canonical.dump({key: record[key] for key in kept if key != "name"})) == {
            key: value for key, value in kept.items() if key != "name"
        }
    assert [(run["verb"], run["name"]) for run in found.runs()] == [("add", "dog"), ("add", "hat"), ("mv", "topper")]


def test_the_golden_index_is_read_and_not_counted_again(store):
    found = Store.open(store)
    owned = found.index.read(found.snapshot().state["owned"])
    assert int(np.unpackbits(owned[0]).sum()) == N_WEIGHTS - found.free().neurons > 0


def test_the_golden_store_can_be_changed_and_stays_in_its_format(store):
    add(Store.open(store), "cat", seed=3)
    assert assert_sound(store) == ["dog", "topper", "cat"]
    assert json.loads((store / catalogue.FILE).read_bytes())["format"] == 1


def test_the_golden_backup_gives_the_golden_store(store, tmp_path):
    result_of(restore(FOLDER / "store.tar", tmp_path / "restored"))
    assert assert_sound(tmp_path / "restored") == ["dog", "topper"]
    golden, found = Store.open(store), Store.open(tmp_path / "restored")
    assert (found.base, found.mode, found.created, found.clip) == (
        golden.base,
        golden.mode,
        golden.created,
        golden.clip,
    )
    assert [r["delta"] for r in found.concepts()] == [r["delta"] for r in golden.concepts()]


def test_store_json_and_the_catalogue_are_written_as_in_the_golden_store(store):
    for name in (manifest.FILE, manifest.COPY):
        content = (store / name).read_bytes()
        assert manifest.to_bytes(manifest.from_bytes(content, name)) == content
    for name in (catalogue.FILE, catalogue.PREVIOUS):
        content = (store / name).read_bytes()
        assert catalogue.seal(catalogue.unseal(content, name).tables) == content


def test_keys_of_a_newer_store_json_are_kept_when_it_is_written(store):
    payload = manifest_of(store)
    payload["later"] = {"a": [1]}
    payload["base"]["later"] = payload["clip"]["later"] = "x"
    write_manifest(store, payload)
    found, _ = manifest.load(store)
    manifest.save(store, replace(found, base=replace(found.base, path="/elsewhere")), before=lambda: None)
    payload["base"]["path"] = "/elsewhere"
    assert manifest_of(store) == payload


def test_keys_of_a_newer_catalogue_are_kept_when_it_is_written(store):
    tables = json.loads((store / catalogue.FILE).read_bytes())["payload"]
    for table in tables.values():
        for document in table.values():
            document["later"] = {"a": [1]}
    (store / catalogue.FILE).write_bytes(catalogue.seal(tables))
    with Store.open(store).transaction("mv") as tx:
        tx.rename("dog", "rex")
    assert assert_sound(store) == ["rex", "topper"]
    after = json.loads((store / catalogue.FILE).read_bytes())["payload"]
    assert [d["later"] for d in after["concepts"].values()] == [{"a": [1]}] * 2
    assert [d["later"] for d in after["state"].values()] == [{"a": [1]}]
    assert ["later" in d for d in after["runs"].values()] == [True] * 3 + [False]


@pytest.mark.parametrize(
    ("names", "number"), [((manifest.FILE, manifest.COPY), 3), ((catalogue.FILE, catalogue.PREVIOUS), 1)]
)
def test_a_newer_store_is_refused_by_name(store, names, number):
    for name in names:
        (store / name).write_bytes(sealed(b'{"another":"frame"}', number + 1))
    with pytest.raises(FormatTooNewError) as caught:
        Store.open(store).snapshot()
    assert_named(caught.value, number, names[0])


# deltas and bundles


def test_the_golden_delta_is_read_and_written_bit_by_bit():
    assert same_delta(delta.read(DELTA_FILE.read_bytes()), DELTA)
    assert delta.write(DELTA) == DELTA_FILE.read_bytes()


def test_metadata_of_a_newer_delta_is_kept():
    newer = delta.write(replace(DELTA, more={"later": {"a": [1]}}))
    assert b"later" in newer
    assert same_delta(delta.read(newer), DELTA)
    assert delta.write(delta.read(newer)) == newer


def test_a_newer_delta_is_refused_by_name():
    data = DELTA_FILE.read_bytes().replace(b'\\"format\\":1', b'\\"format\\":2')
    with pytest.raises(FormatTooNewError) as caught:
        delta.read(data)
    assert_named(caught.value, 1, "the delta")


def test_the_golden_bundle_is_read_and_written_bit_by_bit():
    concept = bundled("cup", DELTA)
    with bundle.open_bundle(BUNDLE_FILE) as found:
        assert (found.base, found.concepts) == (BUNDLED_BASE, (concept,))
        assert found.read("cup") == DELTA_FILE.read_bytes()
    stream = io.BytesIO()
    bundle.write_bundle(stream, BUNDLED_BASE, [concept], lambda _: DELTA_FILE.read_bytes())
    assert stream.getvalue() == BUNDLE_FILE.read_bytes()


def test_keys_of_a_newer_bundle_are_ignored_and_a_newer_number_is_refused_by_name():
    with zipfile.ZipFile(BUNDLE_FILE) as archive:
        document = json.loads(archive.read(bundle.MANIFEST))
    for part in (document, document["base"], document["concepts"][0]):
        part["later"] = {"a": [1]}
    assert bundle._manifest(canonical.dump(document)) == (BUNDLED_BASE, (bundled("cup", DELTA),))
    with pytest.raises(FormatTooNewError) as caught:
        bundle._manifest(canonical.dump({**document, "format": 2}))
    assert_named(caught.value, 1, "the bundle")


# probe records and training states


@pytest.fixture
def recorded() -> dict:
    return json.loads((FOLDER / "probe.json").read_bytes())


@pytest.fixture
def rex(tiny):
    return overlay(Mode.PROMPT, rex=replace(synthetic(tiny, 1), key="rex of 0.1.0"))


def test_the_golden_probe_record_is_read_and_compared(tiny, rex, recorded):
    """Random weights of another torch or processor may differ; tokens, embeddings and deltas are compared on every machine."""
    recorded["later"] = recorded["probes"][0]["later"] = "keys of a newer version are ignored"
    proof = prove(tiny, rex, "rex", json.dumps(recorded).encode())
    of_the_concept = {"the tokens of its prompt changed", "its token changed", "other deltas act on it"}
    assert set(proof.reasons) & of_the_concept == set()
    recorded["probes"][0]["ids"] = "0" * 64
    assert "the tokens of its prompt changed" in prove(tiny, rex, "rex", json.dumps(recorded).encode()).reasons


def test_a_newer_probe_record_is_refused_by_name(tiny, rex, recorded):
    with pytest.raises(FormatTooNewError) as caught:
        prove(tiny, rex, "rex", json.dumps({**recorded, "format": 2}).encode())
    assert_named(caught.value, 1, "a probe record")


def test_the_golden_training_state_is_read():
    found = state_from_bytes((FOLDER / "training.state").read_bytes())
    assert found is not None
    assert (found.step, found.parts, found.losses) == (STATE.step, STATE.parts, STATE.losses)
    assert set(found.tensors) == set(STATE.tensors)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in STATE.tensors.items())


def test_a_newer_training_state_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(training_state, "FORMAT", 3)
    newer = state_to_bytes(STATE)
    monkeypatch.undo()
    with pytest.raises(FormatTooNewError) as caught:
        state_from_bytes(newer)
    assert_named(caught.value, 2, "the training state")


# JSON and images


def test_no_key_of_json_is_removed_or_changed():
    """A key may be added. One that is removed, or has another type, needs another `format`."""
    golden, now = json.loads((FOLDER / "json_keys.json").read_text()), json_keys()
    changed = {(kind, key) for kind, keys in golden.items() for key in keys if now.get(kind, {}).get(key) != keys[key]}
    assert changed == set()


def test_the_golden_image_says_how_it_was_made():
    texts = read_png_text(FOLDER / "image.png")
    assert texts["Software"] == "cnsctl 0.1.0"
    made = json.loads(texts["cnsctl"])
    concepts, base, settings = made.pop("concepts"), made.pop("base"), made.pop("settings")
    assert made == {
        "format": 1, "prompt": "<dog:0.5> on a beach", "negative_prompt": "a cat", "seed": 7, "mode": "token",
        "device": "cpu", "dtype": "fp32",
            "memory": "auto", "batch_size": 1,
    }  # fmt: skip
    assert list(concepts) == ["dog"]
    assert re.fullmatch("[0-9a-f]{64}", concepts["dog"])
    assert base["name"] == "tiny"
    assert (settings["steps"], settings["sampler"], settings["width"], settings["height"]) == (3, "base", 32, 32)
    assert png_pixels((FOLDER / "image.png").read_bytes()).shape == (32, 32, 3)


def assert_named(err: CnsctlError, newest: int, shown: str) -> None:
    """The refusal names the file and both numbers, and says what to do."""
    assert shown in err.what
    assert f"format {newest + 1}" in err.what
    assert f"reads up to {newest}" in str(err.note)
    assert err.reason == "upgrade"
