"""Small stores and deltas for the tests, and the check of a whole store.

Owns nothing that is shipped; must not know how the store works.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

import cnsctl
from cnsctl.concept import Delta, Mode
from cnsctl.formats import canonical
from cnsctl.results import Free
from cnsctl.store import BaseRecord, Store, manifest
from cnsctl.store.seal import sealed

SITES = {"up.0.to_k": (12, 16), "up.0.to_v": (12, 16), "mid.to_k": (7, 16)}
N_WEIGHTS = sum(rows * columns for rows, columns in SITES.values())
CREATED = "2026-11-24T10:00:00Z"


def base_record(**changes):
    fields = {
        "kind": "pocket",
        "path": None,
        "family": "sd1",
        "fingerprint": "f" * 64,
        "name": "pocket",
        "files": {},
        "sites": SITES,
        "denoiser_weights": 10 * N_WEIGHTS,
    }
    return BaseRecord(**{**fields, **changes})


def make_delta(seed, *, sites=SITES, density=0.2, mode=Mode.PROMPT, vectors=1, class_word="dog", fingerprint="f" * 64):
    rng = np.random.default_rng(seed)
    indices = {
        s: np.flatnonzero(rng.random(rows * columns) < density).astype(np.int64) for s, (rows, columns) in sites.items()
    }
    return Delta(
        shapes=dict(sites),
        indices=indices,
        values={s: rng.standard_normal(len(i)).astype(np.float16) for s, i in indices.items()},
        vectors={"clip": rng.standard_normal((vectors, 16)).astype(np.float16)},
        class_word=class_word,
        fingerprint=fingerprint,
        mode=mode,
        recipe={"steps": 250, "learning_rate": 1e-5, "policy": "overlap", "random_mask": False, "seed": seed},
    )


def fields(name, delta, **changes):
    return {
        "name": name,
        "class_word": delta.class_word,
        "tokens": len(delta.vectors["clip"]),
        "share": delta.n_neurons / N_WEIGHTS,
        "share_denoiser": delta.n_neurons / (10 * N_WEIGHTS),
        "created": CREATED,
        "captions": [None, "a caption\nin two lines"],
        "recipe": dict(delta.recipe),
        "scores": {"error_removed": 41.5, "clip_i": None, "clip_t": None, "backbone": "pocket"},
        **changes,
    }


def new_store(path: Path, **changes) -> Store:
    return Store.create(path, base=base_record(), mode=Mode.PROMPT, created=CREATED, **changes)


def manifest_of(path):
    """The payload of `store.json`."""
    return json.loads((path / "store.json").read_bytes())["payload"]


def write_manifest(path, payload):
    """Write `store.json` and its copy with a valid seal, whatever they say."""
    for name in (manifest.FILE, manifest.COPY):
        (path / name).unlink(missing_ok=True)
        (path / name).write_bytes(sealed(canonical.dump(payload), manifest.FORMAT))


def add(store, name, seed=0, *, replace=False, what="add"):
    delta = make_delta(seed)
    with store.transaction(what) as tx:
        return stage(tx, name, delta, replace=replace)


def stage(tx, name, delta, *, replace=False):
    images = [b"png of " + name.encode(), b"second"]
    return tx.add(
        fields(name, delta),
        delta,
        references=images,
        probe=b"probe of " + name.encode(),
        preview=b"p",
        replace=replace,
    )


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


def same_delta(a, b):
    return (
        all(np.array_equal(a.indices[s], b.indices[s]) for s in a.shapes)
        and all(a.values[s].tobytes() == b.values[s].tobytes() for s in a.shapes)
        and all(a.vectors[e].tobytes() == b.vectors[e].tobytes() for e in a.vectors)
        and dict(a.shapes) == dict(b.shapes)
        and set(a.vectors) == set(b.vectors)
        and dict(a.recipe) == dict(b.recipe)
        and (a.class_word, a.fingerprint, a.mode) == (b.class_word, b.fingerprint, b.mode)
    )


def assert_sound(path):
    """Check that every file that a record refers to is intact, and that all counts equal a count from the deltas."""
    store = Store.open(path)
    records = store.concepts()
    deltas = {r["name"]: store.delta(r) for r in records}
    for record in records:
        for sha in [*record["references"], record["probe"], record["preview"]]:
            if sha is not None:
                store.blob(sha)
        assert record["neurons"] == deltas[record["name"]].n_neurons
        assert record["bytes"] == len(store.blob(record["delta"]))
    state = store.snapshot().state
    kept, counted = store.index.kept(state), store.index.rebuild(records).planes
    assert len(kept) == len(counted)
    assert all(np.array_equal(a, b) for a, b in zip(kept, counted, strict=True))
    assert not state["uncounted"]
    owned = {(s, int(i)) for d in deltas.values() for s in d.shapes for i in d.indices[s]}
    assert store.free() == Free(neurons=N_WEIGHTS - len(owned), share=(N_WEIGHTS - len(owned)) / N_WEIGHTS)
    assert [r["seq"] for r in records] == sorted({r["seq"] for r in records})
    return [r["name"] for r in records]


def start(code, *args, **pipes):
    """Start Python code in a new process, which can import the package and this module."""
    places = [str(Path(cnsctl.__file__).parents[1]), str(Path(__file__).parent)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, env=env, text=True, **pipes)


def finish(child, within_s=120):
    """Wait for a process that must succeed; returns what it wrote to a pipe."""
    out, err = child.communicate(timeout=within_s)
    assert child.returncode == 0, err
    return out
