"""All commands in any order against a dictionary, with crashes at any call: what is not expected is a loss."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import CALLS, LOCKS, Fault, Killed
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from store_samples import add, new_store

from cnsctl.app import concepts
from cnsctl.app.check import check
from cnsctl.app.collect import collect
from cnsctl.app.undo import undo
from cnsctl.errors import CnsctlError
from cnsctl.events import result_of
from cnsctl.store import Store

from .tally import Tally, scratch
from .verbs import export_bundle, imported

NAMES = st.sampled_from(["dog", "cat", "hat", "owl"])
SEEDS = st.integers(0, 5)

Concepts = dict[str, str]
"""The id of each concept, in training order."""


class Commands(RuleBasedStateMachine):
    """A store, and what it must contain."""

    folder: Path
    tally: Tally

    @initialize()
    def begin(self) -> None:
        self.world = Path(tempfile.mkdtemp(dir=self.folder))
        self.path = self.world / "s"
        self.now: Concepts = {}
        self.before: Concepts | None = None
        """What `undo` leads to."""
        self.unfinished: set[str] = set()
        self.store = new_store(self.path)
        (self.world / "in").mkdir()

    @rule(name=NAMES, seed=SEEDS)
    def add(self, name: str, seed: int) -> None:
        if name in self.unfinished:
            refused(lambda: add(self.store, name, seed, replace=True))
            return
        record = add(self.store, name, seed, replace=True)
        self._changed({**{k: v for k, v in self.now.items() if k != name}, name: record["id"]})

    @rule(name=NAMES, purge=st.booleans())
    def remove(self, name: str, purge: bool) -> None:
        if name not in self.now and name not in self.unfinished:
            refused(lambda: result_of(concepts.remove(self.store, [name], purge=purge)))
            return
        result_of(concepts.remove(self.store, [name], purge=purge))
        if name in self.now:
            self._changed({k: v for k, v in self.now.items() if k != name})
            if purge:
                self.before = None
        self.unfinished.discard(name)

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        if old not in self.now or new in self.now or new in self.unfinished:
            refused(lambda: result_of(concepts.rename(self.store, old, new)))
            return
        result_of(concepts.rename(self.store, old, new))
        self._changed({new if k == old else k: v for k, v in self.now.items()})

    @rule(old=NAMES, new=NAMES)
    def rename_unfinished(self, old: str, new: str) -> None:
        work = concepts.rename(self.store, old, new, only_unfinished=True)
        if old not in self.unfinished or new in self.unfinished or new in self.now:
            refused(lambda: result_of(work))
            return
        result_of(work)
        self.unfinished = self.unfinished - {old} | {new}

    @rule()
    def undo(self) -> None:
        back = {} if self.before is None else self.before
        returning = {name for name in back if back[name] != self.now.get(name)}
        if self.before is None or self.before == self.now or returning & self.unfinished:
            refused(lambda: result_of(undo(self.store)))
            return
        result_of(undo(self.store))
        self.now, self.before = self.before, self.now

    @rule()
    def collect(self) -> None:
        for path in self.path.glob("blobs/*"):
            os.utime(path, (0, 0))
        collect(self.store)

    @rule()
    def repair(self) -> None:
        assert result_of(check(self.store, repair=True, read_data=True)).findings == ()

    @precondition(lambda self: self.now)
    @rule()
    def export_and_import(self) -> None:
        """The same concepts under other names."""
        names = {name: f"{name}-2" for name in self.now if f"{name}-2" not in self.now}
        if not names:
            return
        export_bundle(self.store, list(names), self.world / "in" / "b.zip")
        imported(self.world, names)
        found = {record["name"]: record for record in self.store.concepts()}
        assert all(found[old]["delta"] == found[new]["delta"] for old, new in names.items())
        self._changed({**self.now, **{new: found[new]["id"] for new in names.values()}})

    @rule(name=NAMES)
    def interrupt_a_training(self, name: str) -> None:
        if name not in self.now:
            with self.store.work.reserve(name) as work:
                (work / "state").write_bytes(b"half")
            self.unfinished.add(name)

    @rule(name=NAMES, seed=SEEDS, n=st.integers(1, 60), removes=st.booleans())
    def crash(self, name: str, seed: int, n: int, removes: bool) -> None:
        """The process is killed at some call of a change; the store is opened again."""
        if name in self.unfinished or (removes and name not in self.now):
            return
        left = {k: v for k, v in self.now.items() if k != name}
        with pytest.MonkeyPatch.context() as patch:
            Fault(patch, n, Killed, calls=(*CALLS, *LOCKS))
            try:
                if removes:
                    result_of(concepts.remove(self.store, [name]))
                else:
                    add(self.store, name, seed, replace=True)
            except Killed:
                self.tally.kills += 1
        self.store = Store.open(self.path)
        found = self._found()
        if found != self.now:
            assert left == {k: v for k, v in found.items() if k != name}
            assert (name in found) != removes
            self._changed(found)

    @rule()
    def reopen(self) -> None:
        self.store = Store.open(self.path)

    def _found(self) -> Concepts:
        return {record["name"]: record["id"] for record in self.store.concepts()}

    def _changed(self, now: Concepts) -> None:
        self.now, self.before = now, self.now

    def check_invariants(self, *args: object, **kwargs: object) -> None:
        self.tally.operations += 1
        if hasattr(self, "now"):
            found = self._found()
            assert list(found.items()) == list(self.now.items())
            assert set(self.store.work.unfinished()) == self.unfinished

    def teardown(self) -> None:
        if hasattr(self, "path"):
            assert result_of(check(Store.open(self.path), read_data=True)).findings == ()
            shutil.rmtree(self.world)


def refused(work: Callable[[], object]) -> None:
    try:
        work()
    except CnsctlError:
        return
    raise AssertionError("it was not refused")


def campaign(n_runs: int, n_steps: int) -> Tally:
    """Run random sequences of commands; the shortest one that fails is described."""
    tally = Tally()
    with scratch() as folder:
        machine = type("Here", (Commands,), {"folder": folder, "tally": tally})
        chosen = settings(
            max_examples=n_runs, stateful_step_count=n_steps, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck), print_blob=False,
        )  # fmt: skip
        try:
            run_state_machine_as_test(machine, settings=chosen)
        except AssertionError as err:
            tally.loss("commands in a row", f"{err} {getattr(err, '__notes__', '')}")
        except Exception as err:  # noqa: BLE001  it is counted
            tally.unexpected("commands in a row", err)
    return tally
