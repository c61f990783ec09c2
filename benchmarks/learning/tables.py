"""Rows as lines of a Markdown table.

Owns widths and rounding; must not know what was measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.learning.questions import Row

WIDTH = 26


def heading(question: str, told: str, columns: Sequence[str]) -> str:
    """Title, one sentence, and the head of the table."""
    head = " | ".join([f"{'':{WIDTH}}", "  mean", "  ±", *(f"{c:>{_width(c)}}" for c in columns)])
    rule = " | ".join(["-" * WIDTH, "-----:", "---:", *("-" * (_width(c) - 1) + ":" for c in columns)])
    sentence = " ".join(told.split())
    return f"### {question}\n\n{sentence} Error removed, %; ± is over noise seeds.\n\n| {head} |\n| {rule} |"


def line(row: Row, columns: Sequence[str]) -> str:
    cells = [f"{row.by_concept[c]:{_width(c)}.1f}" for c in columns]
    return f"| {' | '.join([f'{row.name:{WIDTH}}', f'{row.mean:6.1f}', f'{row.spread:4.1f}', *cells])} |"


def _width(column: str) -> int:
    return max(6, len(column))
