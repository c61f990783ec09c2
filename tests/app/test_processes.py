"""Two processes with gloo on the CPU do the work of one: the same images, and a concept that differs by rounding."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import warm
from commands import at, cnsctl, environment, measure_little, tree

from cnsctl.store import Store

pytestmark = pytest.mark.slow


def commands(lines):
    """In a process of a launch: print what each command answers."""
    warnings.simplefilter("ignore")
    measure_little(pytest.MonkeyPatch())
    for line in lines:
        done = cnsctl(*line)
        sys.stdout.write(json.dumps([done.code, done.out, done.err]) + "\n")
        sys.stdout.flush()


TOLERANCE = 2e-4
"""Mean difference of values after 4 steps of 1e-2: by the order in which the parts of a gradient are added."""


def together(lines, n=2):
    """What each of n processes of one launch prints for each command."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    common = {"WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    running = [warm.start(commands, lines, env=environment(**common, RANK=str(i), LOCAL_RANK=str(i))) for i in range(n)]
    outputs = [process.finish(240) for process in running]
    assert all(code == 0 for code, _, _ in outputs), [err[-2000:] for _, _, err in outputs]
    found = [[json.loads(line) for line in out.splitlines()] for _, out, _ in outputs]
    assert all(code == 0 for process in found for code, _, _ in process), [e[-1500:] for p in found for _, _, e in p]
    return found


@pytest.fixture(scope="module")
def done(shared_store, images_of_two, tmp_path_factory):
    """The same commands by two processes and by one, on two copies of a store."""
    folder = tmp_path_factory.mktemp("together")
    places = {n: Path(shutil.copytree(shared_store, folder / f"store-{n}")) for n in (1, 2)}

    def lines(n):
        store = at(places[n])
        return [
            ("gen", "<dog> on a beach", "a <hat>", "-n", 2, "--seed", 7, "-o", folder / f"images-{n}", *store),
            ("add", "toy", images_of_two / "dog", "--class", "dog", "--batch-size", 3, "--steps", 4, *store),
            ("eval", "dog", "hat", "--json", *store),
        ]

    two = together(lines(2))
    one = [cnsctl(*line) for line in lines(1)]
    assert [result.code for result in one] == [0, 0, 0], [result.err for result in one]
    return folder, places, two, one


def test_each_image_is_made_once_and_is_the_same_bit_for_bit(done):
    folder, _, (main, helper), one = done
    made = {n: {p.name: p.read_bytes() for p in (folder / f"images-{n}").iterdir()} for n in (1, 2)}
    assert made[1] == made[2] and len(made[1]) == 4
    paths = [Path(path).name for path in main[0][1].splitlines()]
    assert paths == [Path(path).name for path in one[0].out.splitlines()]


def test_training_is_that_of_one_process_up_to_the_order_of_addition(done):
    """The global batch of 3 images is shared: 2 and 1."""
    _, places, _, _ = done
    deltas = []
    for n in (1, 2):
        store = Store.open(places[n])
        (record,) = (r for r in store.concepts() if r["name"] == "toy")
        deltas.append(store.delta(record))
    alone, shared = deltas
    assert shared.recipe["batch_size"] == alone.recipe["batch_size"] == 3
    for site, flat in alone.indices.items():
        both, i, j = np.intersect1d(flat, shared.indices[site], return_indices=True)
        assert len(both) > 0.98 * len(flat)
        moved = alone.values[site][i].astype(float) - shared.values[site][j].astype(float)
        assert np.abs(moved).mean() < TOLERANCE


def test_eval_measures_each_concept_once_in_the_order_of_the_store(done):
    _, _, (main, _), one = done
    shared, alone = json.loads(main[2][1]), one[2].json
    assert [c["name"] for c in shared["concepts"]] == ["dog", "hat"]
    assert shared["concepts"] == alone["concepts"]
    assert shared["drift"] == alone["drift"]


def test_only_one_process_writes_the_store(done):
    """One new concept: the files of both stores have the same names, but for what differs by rounding."""
    _, places, _, _ = done
    names = [{Path(name).parent for name in tree(places[n])} for n in (1, 2)]
    assert names[0] == names[1]
    assert len(list(Store.open(places[2]).concepts())) == 3


def test_several_processes_refuse_a_stream(monkeypatch, shared_store):
    from cnsctl.app.generate_request import GenerateRequest, refuse_for_several
    from cnsctl.errors import UsageError

    for request in (GenerateRequest(prompts=(), stream=iter(())), GenerateRequest(prompts=["<dog>"], compare=True)):
        with pytest.raises(UsageError, match="several processes"):
            refuse_for_several(request)


def test_without_a_launcher_accelerate_is_not_imported(monkeypatch):
    """It takes a third of a second."""
    from cnsctl.app.processes import is_main, together

    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)  # importing it would fail
    together({})
    assert is_main()
