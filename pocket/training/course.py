"""The time that a stage has, how much of it is over, and the learning rate that follows from it.

Owns the schedule; must not know what is learned.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A stage's time, which may be spent in several runs."""

    budget_s: float
    """In all."""
    spent_before_s: float = 0.0
    """In earlier runs."""
    decay_from: float = 1.0
    """From this share of the time on the rate falls linearly, to a fiftieth at the end; 1: never."""
    max_steps: int | None = None
    """Steps in this run instead of time."""
    start: float = field(default_factory=time.monotonic)

    def spent_s(self) -> float:
        """Seconds of training so far, over all runs."""
        return self.spent_before_s + time.monotonic() - self.start

    def share(self, steps: int) -> float:
        """How much of the course is over, 0..1, after so many steps of this run."""
        if self.max_steps is not None:
            return min(1.0, steps / self.max_steps)
        return min(1.0, self.spent_s() / self.budget_s) if self.budget_s > 0 else 1.0

    def goes_on(self, steps: int) -> bool:
        return self.share(steps) < 1

    def rate(self, steps: int, *, peak: float, warm: int, before: int = 0) -> float:
        """Learning rate of the next step of this run.

        Args:
            steps: of this run.
            peak: after warming up.
            warm: steps of warming up, once in all runs: a run that goes on has its optimizer's memory.
            before: steps of earlier runs.
        """
        share = self.share(steps)
        warming = min(1.0, (before + steps + 1) / warm)
        if share <= self.decay_from:
            return peak * warming
        left = (1 - share) / (1 - self.decay_from)
        return peak * warming * (left * 0.98 + 0.02)
