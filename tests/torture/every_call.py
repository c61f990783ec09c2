"""Every call of the disk that a command makes fails once, and fails from then on, and is the last one before a kill.

After each the store is in the state before or after the command, a check finds nothing, and the same command works.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

import pytest
from faults import CALLS, LOCKS, Fault, Killed

from cnsctl.errors import CnsctlError

from .tally import Tally, scratch
from .verbs import VERBS, Verb, Worlds, digest, findings, leftovers, one_time, opened, trained

ERRORS: dict[str, tuple[object, bool]] = {
    "EIO once": (errno.EIO, False),
    "EIO from then on": (errno.EIO, True),
    "ENOSPC once": (errno.ENOSPC, False),
    "ENOSPC from then on": (errno.ENOSPC, True),
    "EDQUOT once": (errno.EDQUOT, False),
    "EROFS from then on": (errno.EROFS, True),
    "EINTR once": (errno.EINTR, False),
    "Ctrl-C": (KeyboardInterrupt, False),
    "killed": (Killed, False),
}
"""Errors by name, and whether all later calls fail too."""

MOST_CALLS = 2000


def campaign(names: Iterable[str] = VERBS, errors: Iterable[str] = ERRORS) -> Tally:
    """Let each call of these commands fail with these errors."""
    tally = Tally()
    with scratch() as folder, one_time():
        for name in names:
            verb = VERBS[name]
            worlds = Worlds(folder, verb)
            verb.run(done := worlds.fresh())
            sweep = _Sweep(name, verb, worlds, tally, before=verb.state(worlds.template), after=verb.state(done))
            for error in errors:
                sweep.every_call(error)
            worlds.assert_nothing_was_overwritten_in_place()
    return tally


class _Sweep:
    """All faults of one command."""

    def __init__(self, name: str, verb: Verb, worlds: Worlds, tally: Tally, *, before: object, after: object) -> None:
        self.name, self.verb, self.worlds, self.tally = name, verb, worlds, tally
        self.before, self.after = before, after
        self._known: dict[str, bool] = {}
        """Whether a world is in the state after the command, by its content: equal worlds are looked at once."""

    def every_call(self, error: str) -> None:
        for n in range(1, MOST_CALLS):
            world = self.worlds.fresh()
            where = f"{self.name}, call {n}: {error}"
            fired, said_done = self._run(world, n, error, where)
            self._look_at(world, where, said_done=said_done)
            if not fired:
                assert said_done, f"{where}: without a fault"
                return
            self.tally.faults += 1
            self.tally.kills += error == "killed"
        raise AssertionError(f"{where}: the fault fired every time")

    def _run(self, world: Path, n: int, error: str, where: str) -> tuple[bool, bool]:
        """Whether the fault fired, and whether the command reported success."""
        kind, forever = ERRORS[error]
        with pytest.MonkeyPatch.context() as patch:
            fault = Fault(patch, n, kind, calls=(*CALLS, *LOCKS), forever=forever)
            try:
                self.verb.run(world)
            except (CnsctlError, Killed, KeyboardInterrupt):
                return fault.fired, False
            except Exception as err:  # noqa: BLE001  it is counted
                self.tally.unexpected(where, err)
                return fault.fired, False
        return fault.fired, True

    def _look_at(self, world: Path, where: str, *, said_done: bool) -> None:
        content = digest(world)
        if content not in self._known:
            self._known[content] = look_at(self.verb, world, where, self.tally, before=self.before, after=self.after)
        if said_done and not self._known[content]:
            self.tally.loss(where, "it reported success, and is not done")
        self.worlds.drop(world)


def look_at(verb: Verb, world: Path, where: str, tally: Tally, *, before: object, after: object) -> bool:
    """Check a world after a failure, and that commands work in it; whether it is in the state after the command."""
    try:
        state = verb.state(world)
    except CnsctlError as err:
        tally.loss(where, f"it cannot be read: {err}")
        return False
    if state not in (before, after):
        tally.loss(where, f"neither before nor after: {state}")
        return False
    try:
        if not verb.repairs and (found := findings(world)):
            tally.loss(where, f"check found {found}")
        if state == before:
            verb.run(world)
            if (again := verb.state(world)) != after:
                tally.loss(where, f"the same command again gives {again}")
        trained(world, "new", 9)
        if found := findings(world):
            tally.loss(where, f"after the next command, check found {found}")
        if [record["name"] for record in opened(world).concepts()][-1] != "new":
            tally.loss(where, "the next command has no effect")
        if state == before and (left := leftovers(world)):
            tally.loss(where, f"left after the next command: {left}")
        tally.operations += 1
    except Exception as err:  # noqa: BLE001  it is counted
        tally.unexpected(f"{where}, next command", err)
    return bool(state == after)
