"""The judge's result as a value, as a table for people, and as JSON.

Owns rows, units and rounding; must not know how anything is measured.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

FORMAT = 1
"""Version of the JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure."""

    name: str
    drawn: float
    """Of the base."""
    rendered: float | None = None
    """The same measure on scenes that the world renders for the same captions; None where that has no meaning."""
    unit: str = ""
    """`%` for shares (kept as 0..1), dB, px, s, ..."""
    count: int | None = None
    """Out of how many."""

    @property
    def ratio(self) -> float | None:
        """Drawn as a share of rendered."""
        return None if not self.rendered else self.drawn / self.rendered


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that one judgement found."""

    folder: str
    quick: bool
    steps: int
    guidance: float
    device: str
    rows: tuple[Row, ...]


def as_text(report: Report) -> str:
    """A table in Markdown, for a terminal and for the card alike."""
    head = f"{report.folder}: {report.steps} steps, guidance {report.guidance:g}, {report.device}"
    lines = [
        f"{head}{', quick' if report.quick else ''}",
        "",
        f"| {'measure':<34} | {'drawn':>9} | {'rendered':>9} | {'ratio':>6} | {'of':>5} |",
        f"| {'-' * 34} | {'-' * 8}: | {'-' * 8}: | {'-' * 5}: | {'-' * 4}: |",
    ]
    lines += [
        f"| {row.name:<34} | {_value(row.drawn, row.unit):>9} | {_value(row.rendered, row.unit):>9} "
        f"| {_ratio(row.ratio):>6} | {'' if row.count is None else row.count:>5} |"
        for row in report.rows
    ]
    return "\n".join(lines)


def as_json(report: Report) -> str:
    """One line: the report's fields, each row with its ratio, and the format's version. Absent numbers are null."""
    rows = [{**asdict(row), "ratio": row.ratio} for row in report.rows]
    for row in rows:
        row.update({key: None for key, value in row.items() if isinstance(value, float) and value != value})  # noqa: PLR0124 — nan
    return json.dumps({"format": FORMAT, **asdict(report), "rows": rows}, sort_keys=True)


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.2f} {unit}".rstrip()


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"
