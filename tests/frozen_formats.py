"""Write the golden files of the formats of 0.1.0: `python tests/frozen_formats.py` from the root of a clone.

Golden files are never written again for a version that was released. A format with a new number gets a new folder.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from store_samples import CREATED, base_record, make_delta  # noqa: E402
from store_samples import fields as fields_of  # noqa: E402

from cnsctl import results  # noqa: E402
from cnsctl.app.backup import backup  # noqa: E402
from cnsctl.concept import Delta, Mode  # noqa: E402
from cnsctl.engine.training_state import TrainState, state_to_bytes  # noqa: E402
from cnsctl.events import result_of  # noqa: E402
from cnsctl.formats.bundle import BaseReference, BundledConcept, write_bundle  # noqa: E402
from cnsctl.formats.canonical import sha256  # noqa: E402
from cnsctl.formats.delta import write  # noqa: E402
from cnsctl.store import MetricModel, Store  # noqa: E402

FOLDER = ROOT / "tests" / "frozen" / "0.1"
"""The formats of 0.1.0."""
DELTA_FILE, BUNDLE_FILE = FOLDER / "concept.delta", FOLDER / "concepts.bundle"

CONFIGURATION = b"{}\n"
"""The one file of the base model that is in the store: its weights are in a single file outside."""

BASE = base_record(
    kind="file", path="/models/sd15.safetensors", name="sd15", prediction="epsilon", origin="owner/name@0123abcd",
    checkpoint="c" * 64, files={"model_index.json": sha256(CONFIGURATION)},
)  # fmt: skip
CLIP = MetricModel(name="clip", path="/models/clip", fingerprint="b" * 64, origin="owner/clip@4567cdef")
CONCEPTS = {"dog": make_delta(1), "hat": make_delta(2, class_word="top hat", vectors=2)}
"""What the store contains. `hat` is renamed to `topper`."""

DELTA = Delta(
    shapes={"a.to_k": (2, 600), "a.to_v": (1, 3)},
    indices={"a.to_k": np.array([0, 255, 511, 1199]), "a.to_v": np.array([], np.int64)},
    values={"a.to_k": np.array([0.5, -1, 65504, -0.0], np.float16), "a.to_v": np.array([], np.float16)},
    vectors={"clip": np.array([[1, 2, -0.25]], np.float16)},
    class_word="café",
    fingerprint="0123abcd",
    mode=Mode.TOKEN,
    recipe={"steps": 250, "learning_rate": 1e-05, "policy": "overlap", "random_mask": False},
)
BUNDLED_BASE = BaseReference(name="pocket", family="sd1", fingerprint="0123abcd", origin="pocket")
STATE = TrainState(
    step=7,
    parts={"steps": "10", "versions": "0.1.0, torch 2.13.0"},
    losses=(0.5, 0.25),
    tensors={"vectors.clip": torch.tensor([[1.0, -2.0]]), "indices.a": torch.tensor([0, 5], dtype=torch.int32)},
)


def bundled(name: str, delta: Delta) -> BundledConcept:
    data = write(delta)
    return BundledConcept(
        name=name, class_word=delta.class_word, mode=delta.mode, neurons=delta.n_neurons, created=CREATED,
        sha256=sha256(data), bytes=len(data),
    )  # fmt: skip


def json_keys() -> dict[str, dict[str, str]]:
    """Every object of `--json`: its keys with their types."""
    found = [getattr(results, name) for name in results.__all__]
    return {c.__name__: {f.name: str(f.type) for f in fields(c)} for c in found if is_dataclass(c)}


def make_store(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "store", base=BASE, mode=Mode.PROMPT, created=CREATED, clip=CLIP)
        (store.path / "base").mkdir()
        (store.path / "base" / "model_index.json").write_bytes(CONFIGURATION)
        for name, delta in CONCEPTS.items():
            with store.transaction("add") as tx:
                images = [b"png of " + name.encode(), b"second"]
                tx.add(
                    fields_of(name, delta), delta, references=images, probe=b"probe of " + name.encode(), preview=b"p"
                )
        with store.transaction("mv") as tx:
            tx.rename("hat", "topper")
        shutil.copytree(store.path, path, ignore=shutil.ignore_patterns("lock", "cache", "work", ".*"))


def make_backup(path: Path) -> None:
    """Of the golden store."""
    with tempfile.TemporaryDirectory() as folder:
        result_of(backup(Store.open(Path(shutil.copytree(FOLDER / "store", Path(folder) / "store"))), path))


def make_record(path: Path) -> None:
    """The probe record of a synthetic concept on the tiny base model of the tests."""
    from engine_samples import overlay, synthetic
    from tiny import make_base

    from cnsctl.bases import base_folder, registry
    from cnsctl.data.prompt_templates import probe_prompts
    from cnsctl.engine.proof import record

    with tempfile.TemporaryDirectory() as folder:
        tiny = base_folder.open_folder(make_base(Path(folder) / "tiny"))
        base = registry.load(tiny, device=torch.device("cpu"), dtype=torch.float32, hash_weights=True)
    rex = replace(synthetic(base, 1), key="rex of 0.1.0")
    path.write_bytes(record(base, overlay(Mode.PROMPT, rex=rex), "rex", probe_prompts("rex")[:2]))


def make_image(path: Path) -> None:
    """An image of `gen` with the concept of a store on the tiny base model."""
    from commands import at, cnsctl
    from tiny import make_base

    with tempfile.TemporaryDirectory() as folder:
        base, store = make_base(Path(folder) / "tiny"), at(Path(folder) / "store")
        images = ROOT / "cnsctl" / "examples" / "dog"
        for words in (("init", "--base", base), ("add", "dog", images, "--no-measure")):
            done = cnsctl(*words, *store)
            assert done.code == 0, done.err
        done = cnsctl("gen", "<dog:0.5> on a beach", "--negative-prompt", "a cat", "--seed", 7, "-o", path, *store)
        assert done.code == 0, done.err


def main() -> None:
    FOLDER.mkdir(parents=True)
    make_store(FOLDER / "store")
    make_backup(FOLDER / "store.tar")
    (FOLDER / "concept.delta").write_bytes(write(DELTA))
    with (FOLDER / "concepts.bundle").open("w+b") as stream:
        write_bundle(stream, BUNDLED_BASE, [bundled("cup", DELTA)], {"cup": write(DELTA)}.__getitem__)
    (FOLDER / "training.state").write_bytes(state_to_bytes(STATE))
    make_record(FOLDER / "probe.json")
    make_image(FOLDER / "image.png")
    (FOLDER / "json_keys.json").write_text(json.dumps(json_keys(), indent=1) + "\n")


if __name__ == "__main__":
    main()
