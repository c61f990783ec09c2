"""What a stage tells while it works.

Owns the value that is logged and printed; must not know either.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the log."""

    stage: str
    text: str
    """For people, without the numbers."""
    step: int | None = None
    numbers: dict[str, float | list[float]] = field(default_factory=dict)
    """Losses, samples per second, ..."""

    def __str__(self) -> str:
        numbers = "  ".join(f"{name} {_rounded(value)}" for name, value in self.numbers.items())
        where = self.stage if self.step is None else f"{self.stage} {self.step}"
        return "  ".join(part for part in (where, self.text, numbers) if part)


def _rounded(value: float | list[float]) -> str:
    return " ".join(f"{v:.3f}" for v in value) if isinstance(value, list) else f"{value:.4g}"
