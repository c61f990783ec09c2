"""Tables: aligned columns on a terminal, tab-separated fields in a pipe.

Owns widths and which columns are left out; must not know what the cells mean.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.cli.streams import terminal_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NONE = "–"
EMPTY = ("", NONE)
"""Cells without a value."""

GAP = "  "


@dataclass(frozen=True, slots=True)
class Cell:
    """A value that people and programs read in two forms."""

    shown: str
    """On a terminal: `56,064`, `5.80 %`, `176 KB`."""
    raw: object
    """In a pipe: the number itself; None for an empty field."""


def table(
    rows: Sequence[Sequence[str | Cell]], head: Sequence[str], *, nothing: str = "", least: Sequence[str] = ()
) -> Iterable[str]:
    """Aligned columns with a header on a terminal; in a pipe all columns, separated by tabs, without a header.

    On a terminal a column without a value is left out. Without rows, `nothing` is printed.

    Args:
        rows: of cells.
        head: the titles of the columns.
        nothing: a line in place of a table without rows.
        least: titles of the columns that a narrow terminal leaves out, the first one first.
    """
    if not sys.stdout.isatty():
        yield from ("\t".join(_raw(cell) for cell in row) for row in rows)
        return
    if not rows:
        yield nothing
        return
    shown = [[cell.shown if isinstance(cell, Cell) else cell for cell in row] for row in rows]
    kept = [i for i in range(len(head)) if any(row[i] not in EMPTY for row in shown)]
    widths = {i: max(len(row[i]) for row in [head, *shown]) for i in kept}
    room = terminal_size(sys.stdout).columns
    for title in least:
        if sum(widths[i] + len(GAP) for i in kept) - len(GAP) <= room:
            break
        kept = [i for i in kept if head[i] != title]
    numeric = {i: all(_is_number(row[i]) for row in shown) for i in kept}
    for row in [head, *shown]:
        yield GAP.join(row[i].rjust(widths[i]) if numeric[i] else row[i].ljust(widths[i]) for i in kept).rstrip()


def _raw(cell: str | Cell) -> str:
    value = cell.raw if isinstance(cell, Cell) else cell
    return "" if value is None or value in EMPTY else str(value)


def _is_number(cell: str) -> bool:
    return cell in EMPTY or cell.rstrip(" %KMGB").replace(",", "").replace(".", "").lstrip("+-−").isdigit()
