"""The count of a phase: how many of its steps are done.

Owns this number; must not know what a step is.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cnsctl.events import Denoised, Event, Phase, Step

if TYPE_CHECKING:
    from collections.abc import Generator

R = TypeVar("R")

LEAST = 5
"""Steps of a share that are reported together: each is a line of `--json`."""


@dataclass(slots=True)
class Count:
    """Counts the steps of one phase, whose name and total it has."""

    phase: str
    total: int
    unit: str | None = None
    done: int = 0

    @classmethod
    def percent(cls, phase: str) -> Count:
        """Of a phase whose steps differ too much in size to be counted, such as the parts of a base model."""
        return cls(phase, 100, unit="%")

    def begin(self) -> Phase:
        return Phase(name=self.phase, total=self.total, unit=self.unit)

    def step(self, steps: int = 1) -> Step:
        """The event of these steps, now done. What cannot be done counts too, so that the count reaches its total."""
        self.done += steps
        return Step(phase=self.phase, step=self.done, total=self.total)

    def each(self, work: Generator[object, None, R]) -> Generator[Event, None, R]:
        """Count whatever the work reports as a step, and return its result. A `Denoised` is only a part of one."""
        while True:
            try:
                reported = next(work)
            except StopIteration as done:
                result: R = done.value
                return result
            yield reported if isinstance(reported, Denoised) else self.step()

    def shares(self, work: Generator[float, None, R]) -> Generator[Event, None, R]:
        """Count work that reports which share of it is done, from 0 to 1, and return its result."""
        with closing(work):
            while True:
                try:
                    share = next(work)
                except StopIteration as done:
                    if self.done < self.total:
                        yield self.step(self.total - self.done)
                    result: R = done.value
                    return result
                if (steps := int(share * self.total) - self.done) >= LEAST:
                    yield self.step(steps)


def parts(work: Generator[object, None, R], total: int) -> Generator[Event, None, R]:
    """Report the work as parts of the next step of a phase, and return its result."""
    done = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: R = end.value
            return result
        done += 1
        yield Denoised(step=done, total=total)
