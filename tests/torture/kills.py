"""kill -9 at random times: the store is in the state before or after the command, and what was reported as done is kept."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from .every_call import look_at
from .tally import Tally, scratch
from .verbs import VERBS, Verb, Worlds, digest, one_time

ENOUGH = 20
"""Commands that are started for each that is to be killed, at most."""


def campaign(times: int, names: Iterable[str] = VERBS) -> Tally:
    """Kill these commands, in turns, until so many were killed before their end."""
    tally = Tally()
    chosen = list(names)
    with scratch() as folder, one_time():
        for i, name in enumerate(chosen):
            _Victim(name, VERBS[name], folder, tally).killed(times // len(chosen) + (i < times % len(chosen)))
    return tally


class _Victim:
    """One command, which is killed again and again."""

    def __init__(self, name: str, verb: Verb, folder: Path, tally: Tally) -> None:
        self.name, self.verb, self.tally = name, verb, tally
        self.worlds = Worlds(folder, verb)
        began_s = time.monotonic()
        verb.run(world := self.worlds.fresh())
        self._span_s = time.monotonic() - began_s
        self.before, self.after = verb.state(self.worlds.template), verb.state(world)
        self.worlds.drop(world)
        self._known: dict[str, bool] = {}

    def killed(self, times: int) -> None:
        rng, n_killed = random.Random(self.name), 0  # noqa: S311  reproducible on purpose
        for _ in range(ENOUGH * times):
            if n_killed == times:
                return
            world = self.worlds.fresh()
            said_done = self._run(world, self._span_s * rng.random())
            self._span_s *= 0.95 if said_done else 1.02  # so that both happen, however busy the machine is
            where = f"{self.name}, killed {'after' if said_done else 'before'} it was done"
            content = digest(world)
            if content not in self._known:
                self._known[content] = look_at(
                    self.verb, world, where, self.tally, before=self.before, after=self.after
                )
            if said_done and not self._known[content]:
                self.tally.loss(where, "what was reported as done is not there")
            n_killed += not said_done
            self.tally.kills += not said_done
            self.worlds.drop(world)
        raise AssertionError(f"{self.name} ended before it could be killed")

    def _run(self, world: Path, delay_s: float) -> bool:
        """Run the command in a process and kill it after a delay; whether it was done before that."""
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.close(read)
            os.write(write, b"+")
            self.verb.run(world)
            os.write(write, b"=")
            while True:
                signal.pause()
        os.close(write)
        os.read(read, 1)  # it has begun
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        said_done = os.read(read, 1) == b"="
        os.close(read)
        return said_done
