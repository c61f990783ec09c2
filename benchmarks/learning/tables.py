"""Rows as lines of a Markdown table.

Owns widths and rounding; must not know what was measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.learning.rows import Row

WIDTH = 26


def heading(question: str, asked: str, first: Row, columns: Sequence[str]) -> str:
    """Title, what is asked, and the head of the table.

    Args:
        question: its name.
        asked: what it asks.
        first: the first row: with a spread, the cells are error removed in percent, and have a mean.
        columns: names of the cells.
    """
    sentence = " ".join(asked.split())
    sums = [] if first.spread is None else ["  mean", "   ±"]
    if sums:
        sentence += " Error removed, %; ± is over noise seeds."
    names = [f"{'':{WIDTH}}", *sums, *(f"{c:>{_width(c)}}" for c in columns)]
    rules = ["-" * WIDTH, *("-" * (len(c) - 1) + ":" for c in names[1:])]
    return f"### {question}\n\n{sentence}\n\n| {' | '.join(names)} |\n| {' | '.join(rules)} |"


def line(row: Row, columns: Sequence[str]) -> str:
    digits = 2 if row.spread is None else 1
    sums = [] if row.spread is None else [f"{row.mean:6.1f}", f"{row.spread:4.1f}"]
    cells = [f"{row.cells[c]:{_width(c)}.{digits}f}" for c in columns]
    return f"| {' | '.join([f'{row.name:{WIDTH}}', *sums, *cells])} |"


def _width(column: str) -> int:
    return max(6, len(column))
