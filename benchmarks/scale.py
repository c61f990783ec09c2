"""The cost of commands as a store grows: `python -m benchmarks.scale`.

Stores of 1, 100 and 1,000 synthetic concepts in the shapes of Stable Diffusion 1.5's K and V (32 sites, 19.2 M weights).

    commit           the transaction that adds concept N, after its training
    ls show mv rm check    whole processes
    gen, add         their use of the store before the first step: look-ups, overlay; prior, owned neurons
    verify           per concept: reading and checking its delta and probe record

The base model is not loaded, because its cost does not depend on the store (`python -m benchmarks.costs`). All concepts
but the last share a few different deltas, and are written directly into catalogue and index. Figures are minima of
interleaved rounds. Do not compare figures of two machines.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cnsctl.concept import Delta, Mode
from cnsctl.formats import canonical
from cnsctl.formats import delta as delta_file
from cnsctl.store import BaseRecord, Store, blobs, catalogue, ownership
from cnsctl.store.files import write_atomic

WIDTHS = {"down_blocks.0": (320, 2), "down_blocks.1": (640, 2), "down_blocks.2": (1280, 2), "mid_block": (1280, 1),
          "up_blocks.1": (1280, 3), "up_blocks.2": (640, 3), "up_blocks.3": (320, 3)}  # fmt: skip
"""Per block: rows of its K and V, and how many cross-attention layers it has."""

SITES = {
    f"{block}.attentions.{i}.transformer_blocks.0.attn2.{half}": (rows, 768)
    for block, (rows, n_layers) in WIDTHS.items()
    for i in range(n_layers)
    for half in ("to_k", "to_v")
}
SIZES = {site: rows * columns for site, (rows, columns) in SITES.items()}
CREATED = "2026-11-24T10:00:00Z"
COMMANDS = {
    "ls": [["ls"]],
    "show": [["show", "c0"]],
    "mv": [["mv", "c0", "other"], ["mv", "other", "c0"]],
    "rm": [["rm", "new", "-y"]],
    "check": [["check"]],
}
"""The first call of each is timed; the others restore the store."""

PARTS = ("commit", "gen", "add", "verify")

FIXED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
"""For parts of a process. glibc changes these by what was freed before: 5 ms of page faults more or less per commit."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 100, 1000], help="concepts in the store")
    parser.add_argument("--density", type=float, default=0.058, help="share of the weights that a concept changes")
    parser.add_argument("--deltas", type=int, default=10, help="different deltas among the concepts of a store")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", nargs=3, metavar=("PART", "STORE", "MEMORY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is not None:
        part, path, memory = options.part
        print(json.dumps(PART[part](Path(path), options.density, memory == "memory")))  # noqa: T201  for the parent
        return
    say(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        stores = {n: filled(Path(folder) / str(n), n, options.density, options.deltas) for n in options.sizes}
        report(stores, measured(stores, options.density, options.rounds))


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  a benchmark's answer


def synthetic(seed: int, density: float) -> Delta:
    """A concept of random neurons and values."""
    rng = np.random.default_rng(seed)
    indices = {s: np.flatnonzero(rng.random(size, np.float32) < density).astype(np.int64) for s, size in SIZES.items()}
    return Delta(
        shapes=SITES,
        indices=indices,
        values={s: rng.standard_normal(len(flat), np.float32).astype(np.float16) for s, flat in indices.items()},
        vectors={"clip": rng.standard_normal((1, 768)).astype(np.float16)},
        class_word="dog", fingerprint="f" * 64, mode=Mode.TOKEN, recipe={},
    )  # fmt: skip


def fields(name: str, delta: Delta) -> dict[str, Any]:
    """The record of a concept, as `add` writes it."""
    recipe = {"steps": 250, "batch_size": 4, "learning_rate": 0.007, "token_learning_rate": 0.005, "token_embeddings": 1, "budget": 0.058,
              "policy": "overlap", "seed": 0, "warmup": 0.2, "lambda_prev": 0.0, "lambda_base": 0.0,
              "orthogonal": False, "random_mask": False, "select": "exact", "holdout": 0, "images": 5, "device": "cuda", "dtype": "bfloat16"}  # fmt: skip
    return {
        "name": name, "class_word": delta.class_word, "tokens": 1, "share": delta.n_neurons / sum(SIZES.values()),
        "share_denoiser": delta.n_neurons / 859_520_964, "created": CREATED, "captions": [None] * 5, "recipe": recipe,
        "scores": {"error_removed": 21.52, "clip_i": 0.812, "clip_t": 0.253, "backbone": "sd15"},
    }  # fmt: skip


def filled(path: Path, n: int, density: float, n_deltas: int) -> Path:
    """A store with n concepts, c0 …, with the files of n transactions, without their fsyncs."""
    base = BaseRecord(
        kind="folder", path=str(path), family="sd1", fingerprint="f" * 64, name="sd15", files={}, sites=SITES,
        denoiser_weights=859_520_964,
    )  # fmt: skip
    store = Store.create(path, base=base, mode=Mode.TOKEN, created=CREATED)
    tables = catalogue.first_tables(base.n_weights)
    planes: ownership.Planes = ()
    made: list[tuple[dict[str, Any], ownership.Bits]] = []
    for i in range(n):
        if i < n_deltas:
            delta = synthetic(i, density)
            content = delta_file.write(delta)
            parts = {"delta": content, "probe": b"probe", "preview": b"preview"}
            kept: dict[str, Any] = {key: blobs.put(path / "blobs", data) for key, data in parts.items()}
            kept |= {"bytes": len(content), "neurons": delta.n_neurons, "references": [kept["preview"]] * 5}
            made.append(({**fields("", delta), **kept}, ownership.pack(delta.indices, SIZES)))
        record, mask = made[i % n_deltas]
        planes = ownership.added(planes, mask)
        tables["concepts"][str(i + 1)] = {**record, "id": f"{i:016x}", "name": f"c{i}", "seq": i + 1}
    run = {"verb": "add", "name": "c0", "when": CREATED, "outcome": "kept", "seconds": 28.0}
    tables["runs"] = {str(i + 1): run for i in range(max(0, n - 100), n)}
    tables["state"]["1"] |= {
        "generation": n,
        "next_seq": n + 1,
        "free": base.n_weights - ownership.count(ownership.union(planes, SIZES)),
        "owners": store.index.write(planes),
        "owned": store.index.write((ownership.union(planes, SIZES),)),
    }
    write_atomic(path / "catalogue.json", catalogue.seal(tables))
    kinds = (
        f"{min(n, n_deltas)} different delta{'s' if min(n, n_deltas) > 1 else ''} of {made[0][0]['bytes'] / 1e6:.1f} MB"
    )
    say(f"store of {n}: {kinds}; catalogue {(path / 'catalogue.json').stat().st_size / 1e3:,.0f} KB, "
        f"index {len(planes)} planes, {len(planes) * len(made[0][1]) / 1e6:.1f} MB")  # fmt: skip
    return store.path


Figures = dict[tuple[str, int], dict[str, list[float]]]


def measured(stores: dict[int, Path], density: float, rounds: int) -> Figures:
    """Seconds and megabytes, by measurement and number of concepts in the store."""
    found: Figures = {}
    for turn in range(rounds):
        for what, n, figures in one_round(stores, density, memory=turn == 0):
            for key, value in figures.items():
                found.setdefault((what, n), {}).setdefault(key, []).append(value)
    return found


def one_round(stores: dict[int, Path], density: float, *, memory: bool) -> Iterator[tuple[str, int, dict[str, float]]]:
    for what in PARTS:
        for n, path in stores.items():
            yield what, n, child(what, path, density, memory=False)
            if memory:
                yield what, n, {"MB": child(what, path, density, memory=True)["MB"]}
    for verb, lines in COMMANDS.items():
        for n, path in stores.items():
            if verb == "rm":
                put_new(path, density)
            yield verb, n, called(path, lines[0])
            for line in lines[1:]:
                called(path, line)


def child(part: str, path: Path, density: float, *, memory: bool) -> dict[str, float]:
    asked = ["--density", str(density), "--part", part, str(path), "memory" if memory else "time"]
    command = [sys.executable, "-m", "benchmarks.scale", *asked]
    environment = {**os.environ, **FIXED_MALLOC}
    answer: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, env=environment).stdout
    )
    return answer


WATCH = """
import os, sys, time
began = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
sys.stderr.write(f"{time.perf_counter() - began} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss / 1e3}")
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs a command and prints its cost; a small program, because Linux counts the memory of the parent process."""


def called(path: Path, line: list[str]) -> dict[str, float]:
    """A whole process: wall and CPU time, and peak memory."""
    command = [sys.executable, "-m", "cnsctl", *line, "-q", "--store", str(path)]
    done = subprocess.run([sys.executable, "-ISc", WATCH, *command], check=True, capture_output=True, text=True)
    total, cpu, megabytes = map(float, done.stderr.split())
    return {"total": total, "CPU": cpu, "MB": megabytes}


def put_new(path: Path, density: float) -> None:
    delta = synthetic(10**6, density)
    with Store.open(path).transaction("add new") as tx:
        tx.add(fields("new", delta), delta, references=[b"png"] * 5, probe=b"probe")


@contextmanager
def watched(*, memory: bool) -> Iterator[dict[str, float]]:
    """Wall seconds, and CPU seconds without SHA-256, write and fsync; or the peak of additional memory."""
    found: dict[str, float] = {}
    apart = [0.0]

    def left_out(honest: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return honest(*args, **kwargs)
            finally:
                apart[0] += time.process_time() - began

        return call

    if memory:
        tracemalloc.start()
    else:
        for module in (canonical, blobs):
            module.sha256 = left_out(module.sha256)  # type: ignore[attr-defined]
        os.fsync, os.write = left_out(os.fsync), left_out(os.write)
    began, began_cpu = time.perf_counter(), time.process_time()
    yield found
    found["total"] = time.perf_counter() - began
    found["CPU"] = time.process_time() - began_cpu - apart[0]
    if memory:
        found["MB"] = tracemalloc.get_traced_memory()[1] / 1e6


def commit(path: Path, density: float, memory: bool) -> dict[str, float]:
    delta, store = synthetic(10**6, density), Store.open(path)
    store.snapshot()  # `add` reads it minutes earlier, when it begins
    with watched(memory=memory) as found, store.transaction("add new") as tx:
        tx.add(fields("new", delta), delta, references=[b"png"] * 5, probe=b"probe", preview=b"preview")
    with store.transaction("rm new") as tx:
        tx.remove("new")
    return found


def _session(store: Store) -> Any:
    """A session on a base model that has only the shapes of SD 1.5's sites."""
    import torch

    from cnsctl.app.session import Session

    base = SimpleNamespace(
        fingerprint="f" * 64, device=torch.device("cpu"), vector_widths={"clip": 768},
        sites={site: torch.empty(shape) for site, shape in SITES.items()}, shapes=dict(SITES),
    )  # fmt: skip
    return Session(store=store, base=base, device=base.device, dtype="fp32")


def gen(path: Path, _density: float, memory: bool) -> dict[str, float]:
    from cnsctl.app.concepts import known_names
    from cnsctl.data.prompt_grammar import parse

    session = _session(Store.open(path))
    session.overlay([])  # imports
    session = _session(Store.open(path))
    with watched(memory=memory) as found:
        prompt = parse("a <c0> on a beach", known_names(session.store))
        session.overlay(m.name for m in prompt.mentions)
    return found


def add(path: Path, _density: float, memory: bool) -> dict[str, float]:
    _session(Store.open(path)).prior("new")  # imports
    session = _session(Store.open(path))
    with watched(memory=memory) as found:
        if "new" in session.store.snapshot().names:
            raise SystemExit("the store has changed since it was made")
        session.prior("new")
        session.store.index.owned(session.store.snapshot(), besides="new")
    return found


def verify(path: Path, _density: float, memory: bool) -> dict[str, float]:
    session = _session(Store.open(path))
    records = session.store.concepts()
    chosen = [records[i] for i in sorted({i * len(records) // 10 for i in range(10)})]
    session.overlay([])  # imports
    with watched(memory=memory) as found:
        for record in chosen:
            session.overlay([record["name"]])
            session.store.blob(record["probe"])
    times = {key: found[key] / len(chosen) for key in ("total", "CPU")}
    return found | times


PART = {"commit": commit, "gen": gen, "add": add, "verify": verify}


def report(stores: dict[int, Path], found: Figures) -> None:
    sizes = list(stores)
    head = [*(f"{n:,} concept{'s' if n > 1 else ''}" for n in sizes), f"{sizes[-1]:,} : {sizes[0]:,}"]
    named = ("commit", *COMMANDS, "gen", "add", "verify")
    rows = [(what, key) for key in ("total", "CPU", "MB") for what in named]
    say(f"{'':28}" + "".join(f"{cell:>16}" for cell in head))
    for what, key in rows:
        unit = "MB" if key == "MB" else "ms"
        values = [min(found[what, n][key]) * (1000 if unit == "ms" else 1) for n in sizes]
        beside = "" if what in COMMANDS else "*"
        label = f"{what}, {({'total': 'wall', 'CPU': f'CPU{beside}', 'MB': 'peak memory'})[key]}"
        label += " per concept" if what == "verify" and unit == "ms" else ""
        cells = [f"{value:,.1f} {unit}" for value in values]
        say(f"{label:28}" + "".join(f"{cell:>16}" for cell in [*cells, f"{values[-1] / max(values[0], 1e-9):.2f} ×"]))
    say(
        "* without SHA-256, write and fsync. ls, show, mv, rm, check: whole processes; the others: the part that reads the store"
    )


if __name__ == "__main__":
    main()
