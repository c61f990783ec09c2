"""Several processes write at once: each finds what it wrote, whatever the others do, and nothing is lost or there twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
import traceback
from pathlib import Path

from store_samples import add, new_store

from cnsctl.app import concepts
from cnsctl.app.check import check
from cnsctl.app.collect import collect
from cnsctl.errors import ConceptNotFoundError, NameTakenError, StoreDamagedError
from cnsctl.events import result_of
from cnsctl.store import Store

from .tally import Tally, scratch

PATIENCE_S = 600.0
"""How long an operation may wait for the others."""

SHARED = ("s-1", "s-2")
"""Names that all writers want."""


class _Writer:
    """One process, with names of its own, and a few that all want."""

    def __init__(self, path: Path, number: int) -> None:
        self.store = Store.open(path, wait_s=PATIENCE_S)
        self.names = [f"w{number}-{k}" for k in range(4)]
        self.rng = random.Random(number)  # noqa: S311  reproducible on purpose
        self.own: dict[str, str] = {}
        """The delta of each own concept, as this process has written it."""
        self.shared = dict.fromkeys(SHARED, 0)
        """Added minus removed, by this process."""
        self.changes = 0
        """Commits that change the generation."""

    def run(self, n_operations: int) -> dict[str, object]:
        for n in range(n_operations):
            self.one(n)
        return {"own": self.own, "shared": self.shared, "changes": self.changes}

    def one(self, n: int) -> None:
        name = self.rng.choice(self.names)
        choice = self.rng.random()
        if choice < 0.1:
            self._want(self.rng.choice(SHARED), n)
        elif choice < 0.15:
            collect(self.store)
        elif name not in self.own or choice < 0.35:
            self._add(name, n)
        elif choice < 0.6:
            result_of(concepts.remove(self.store, [name], purge=choice < 0.4))
            self.changes += 1
            del self.own[name]
        elif choice < 0.8 and (free := [other for other in self.names if other not in self.own]):
            result_of(concepts.rename(self.store, name, free[0]))
            self.own[free[0]] = self.own.pop(name)
        else:
            self._read()

    def _add(self, name: str, n: int) -> None:
        self.own[name] = add(self.store, name, hash((name, n)) % 1000, replace=True)["delta"]
        self.changes += 1

    def _want(self, name: str, n: int) -> None:
        with contextlib.suppress(NameTakenError, ConceptNotFoundError):
            if self.rng.random() < 0.5:
                add(self.store, name, n)
                self.shared[name] += 1
            else:
                with self.store.transaction("rm") as tx:
                    tx.remove(name)
                self.shared[name] -= 1
            self.changes += 1

    def _read(self) -> None:
        found = {record["name"]: record["delta"] for record in self.store.concepts()}
        assert {name: found.get(name) for name in self.names} == {name: self.own.get(name) for name in self.names}
        for name in self.own:
            assert self.store.delta(self.store.concept(name)).n_neurons > 0


def campaign(n_processes: int, n_operations: int) -> Tally:
    """Let several processes change one store, and one read it; compare it with what they say."""
    tally = Tally()
    with scratch() as folder:
        new_store(folder / "s")
        writers = {i: _started(folder / "s", i, n_operations) for i in range(n_processes)}
        said = {}
        while writers:
            _read_once(Store.open(folder / "s"), tally)
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended:
                number = next(i for i, (child, _) in writers.items() if child == ended)
                said[number] = _answer(writers.pop(number)[1], number, status, tally)
            time.sleep(0.01)
        tally.operations = n_processes * n_operations
        _compare(folder / "s", [one for one in said.values() if one is not None], tally)
    return tally


def _started(path: Path, number: int, n_operations: int) -> tuple[int, int]:
    read, write = os.pipe()
    if child := os.fork():
        os.close(write)
        return child, read
    try:
        said = json.dumps(_Writer(path, number).run(n_operations))
        status = 0
    except BaseException:  # noqa: BLE001  the parent counts it
        said, status = traceback.format_exc(), 1
    os.write(write, said.encode())
    os._exit(status)


def _answer(read: int, number: int, status: int, tally: Tally) -> dict[str, object] | None:
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    if status == 0:
        found: dict[str, object] = json.loads(said)
        return found
    tally.loss(f"writer {number}", said)
    return None


def _read_once(store: Store, tally: Tally) -> None:
    """A reader sees one state; what it misses was removed meanwhile."""
    found = store.snapshot()
    for record in found.concepts[-2:]:
        try:
            store.delta(record)
        except StoreDamagedError:
            if store.snapshot() is found:
                tally.loss("a reader", f"{record['name']} cannot be read")
    tally.inputs += 1


def _compare(path: Path, said: list[dict], tally: Tally) -> None:
    store = Store.open(path)
    found = {record["name"]: record["delta"] for record in store.concepts()}
    own = {name: delta for one in said for name, delta in one["own"].items()}
    shared = {name for name in SHARED if sum(one["shared"][name] for one in said) == 1}
    if any(sum(one["shared"][name] for one in said) not in (0, 1) for name in SHARED):
        tally.loss("writers", "a name was given to two of them")
    if {name: delta for name, delta in found.items() if name not in SHARED} != own:
        tally.loss("writers", f"the store has {sorted(found)}, the writers {sorted(own)}")
    if found.keys() & set(SHARED) != shared:
        tally.loss("writers", f"the store has {sorted(found.keys() & set(SHARED))} of {sorted(shared)}")
    if store.generation() != sum(one["changes"] for one in said):
        tally.loss("writers", f"generation {store.generation()} after {sum(one['changes'] for one in said)} changes")
    if problems := result_of(check(store, read_data=True)).findings:
        tally.loss("writers", f"check found {problems}")
