"""The count of a phase: how many of its steps are done.

Owns this number; must not know what a step is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cnsctl.events import Denoised, Event, Phase, Step

if TYPE_CHECKING:
    from collections.abc import Generator

R = TypeVar("R")


@dataclass(slots=True)
class Count:
    """Counts the steps of one phase, whose name and total it has."""

    phase: str
    total: int
    done: int = 0

    def begin(self) -> Phase:
        return Phase(name=self.phase, total=self.total)

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
