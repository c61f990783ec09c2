"""How far a command is, and how long the rest of it takes.

Owns the time that is left; must not know how it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.events import Ahead, Denoised, ImageReady, Phase, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    Clock = Callable[[], float]
    Counted = Ahead | Phase | Step | Denoised | ImageReady

UNLIKE = "%"
"""Unit of phases that read files: their time says nothing about phases that compute."""

TRUSTED = 1 / 3
"""Share of a phase after which only its own pace counts; before, the expected cost counts too."""

NEGLIGIBLE = 0.1
"""Share of a command that may be left out of the time left, if it is unknown how long that takes."""

ENOUGH = 0.02
"""Of the cost of a command: what must be computed before the time left follows from its pace."""


class Pace:
    """How far one phase is, and how fast.

    Args:
        phase: that begins now.
        cost: what it was expected to cost.
        clock: in seconds.
    """

    def __init__(self, phase: Phase, cost: float, clock: Clock) -> None:
        self.name, self.total, self.cost, self.clock = phase.name, phase.total, cost, clock
        self.unit = "" if phase.unit is None else f" {phase.unit}"
        self.is_alike = phase.unit != UNLIKE
        self.done, self.part, self.loss, self.is_preview = 0, "", "", False
        self._beside, self._beside_done, self._beside_now = phase.beside, 0.0, 0.0
        self.share = 0.0
        """Of the phase, that is done."""
        self.began_s = self.at_s = clock()
        self._first: tuple[float, float] | None = None
        """When the first step ended, and the share that was done then: it also prepares what the others only use."""

    def take(self, event: Step | Denoised | ImageReady) -> None:
        """Count an event of the phase."""
        begun, self.is_preview = 0.0, False
        match event:
            case Step(step=step, total=total, loss=loss):
                self.done, self.total, self.part = step, total, ""
                self.loss = "" if loss is None else _loss(event)
                self._beside_done, self._beside_now = self._beside_done + self._beside_now, 0.0
            case Denoised(step=step, total=total, images=images, beside=beside):
                begun, self.part, self.is_preview = images * step / total, f"{step}/{total}", not images
                self._beside_now = beside * step / total
            case ImageReady():
                self.done, self.part = self.done + 1, ""
        if self.total:
            done = self.done + begun + self._beside_done + self._beside_now
            self.share = max(self.share, min(1.0, done / (self.total + self._beside)))
            self.at_s = self.clock()
            if self._first is None and self.share > 0:
                self._first = (self.at_s, self.share)

    @property
    def count(self) -> str:
        """`3/10`, or `3/100 %`; empty without a count, and of a single thing that has parts."""
        return f"{self.done}/{self.total}{self.unit}" if self.total and not (self.part and self.total == 1) else ""

    @property
    def passed_s(self) -> float:
        """Seconds since the phase began."""
        return self.clock() - self.began_s

    @property
    def whole_s(self) -> float | None:
        """Seconds of the whole phase, by its steps after the first; None before its second step."""
        if self._first is not None and self.share > self._first[1]:
            at_s, share = self._first
            return (self.at_s - at_s) / (self.share - share)
        return self.at_s - self.began_s if self.share >= 1 else None


def _loss(step: Step) -> str:
    if step.loss_first is None:
        return f"loss {step.loss:.3f}"
    now = "" if step.loss_now is None else f" → {step.loss_now:.3f}"
    return f"loss {step.loss_first:.3f}{now}"


class Course:
    """How far a command is: its phases one after another, of which it knows the rough costs.

    The costs of phases are only compared with each other. What a unit of cost takes follows from the phases so far.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.pace: Pace | None = None
        self._ahead: list[tuple[str, float]] = []
        self._past: list[Pace] = []
        self._shown = 0.0
        self._began_s = clock()

    def take(self, event: Counted) -> bool:
        """Count an event; whether a phase of another name begins."""
        if isinstance(event, Ahead):
            self._ahead = list(event.phases)
            return False
        if not isinstance(event, Phase):
            if self.pace is not None:
                self.pace.take(event)
            return False
        before, self.pace = self.pace, self._next(event)
        return before is None or before.name != event.name

    def _next(self, phase: Phase) -> Pace:
        names, cost = [name for name, _ in self._ahead], 0.0
        if phase.name in names:
            at = names.index(phase.name)
            cost, self._ahead = self._ahead[at][1], self._ahead[at + 1 :]
        elif not names:  # a new beginning: the next line of a stream of prompts
            self._past, self.pace, self._shown, self._began_s = [], None, 0.0, self.clock()
        if self.pace is not None:
            self._past.append(self.pace)
        return Pace(phase, cost, self.clock)

    @property
    def left_s(self) -> float | None:
        """Seconds until the end of the command; None until enough of it has been computed."""
        if self.pace is None:
            return None
        later, rate = sum(cost for _, cost in self._ahead), self._rate(self._computed())
        now = self._now_left_s()
        if now is None and (rate is None or self.pace.cost):
            return None
        if rate is None and later > NEGLIGIBLE * self._cost:
            return None
        return (now or 0.0) + later * (rate or 0.0)

    def _now_left_s(self) -> float | None:
        """Of the current phase: by its own pace, and at its beginning by that of the phases before it."""
        pace = self.pace
        assert pace is not None
        rate = self._rate([other for other in self._computed() if other is not pace])
        expected = rate * pace.cost if rate is not None and pace.cost and pace.is_alike else None
        own = pace.whole_s
        if own is None or expected is None:
            whole = expected if own is None else own
        else:
            trust = min(1.0, pace.share / TRUSTED)
            whole = trust * own + (1 - trust) * expected
        return None if whole is None else max(0.0, whole * (1 - pace.share) - (self.clock() - pace.at_s))

    def _computed(self) -> list[Pace]:
        """The phases so far whose pace is comparable with that of others."""
        return [
            p for p in (*self._past, self.pace) if p is not None and p.is_alike and p.cost and p.whole_s is not None
        ]

    def _rate(self, paces: list[Pace]) -> float | None:
        """Seconds per unit of cost."""
        cost = sum(pace.cost * pace.share for pace in paces)
        if not cost or cost < ENOUGH * self._cost:
            return None
        return sum((pace.whole_s or 0.0) * pace.share for pace in paces) / cost

    @property
    def _cost(self) -> float:
        """Of the whole command."""
        return sum(pace.cost for pace in (*self._past, self.pace) if pace) + sum(cost for _, cost in self._ahead)

    @property
    def is_planned(self) -> bool:
        """Whether more is known than the current phase."""
        return self.pace is not None and self._cost > 0

    @property
    def share(self) -> float:
        """Of the command, that is done; it never goes back."""
        left_s = self.left_s
        passed_s = self.clock() - self._began_s
        if left_s is not None:
            self._shown = max(self._shown, passed_s / (passed_s + left_s) if passed_s + left_s else 0.0)
        elif self.pace is not None:
            done = sum(pace.cost for pace in self._past) + self.pace.cost * self.pace.share
            self._shown = max(self._shown, done / self._cost if self._cost else self.pace.share)
        return min(1.0, self._shown)
