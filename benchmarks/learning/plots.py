"""Three plots of what was measured: against budget, against steps, and over a sequence.

Owns how they look; must not know how anything is measured. Needs matplotlib: `pip install -e '.[bench]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.learning.questions import budgets, sequences, steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.learning.bench import Bench
    from benchmarks.learning.questions import Row

COLOURS = {"CNS": "#4c3fbf", "random": "#c4762b", "CNS, λ = 0": "#2f9e8f", "all K/V": "#8a8a8a"}


def draw_plots(bench: Bench, out: Path, *, quick: bool) -> Iterator[Path]:
    """Write `budget.png`, `steps.png` and `sequence.png` and yield each path.

    What was measured before is read back; what is missing is learned and measured now.

    Args:
        bench: base and results.
        out: folder.
        quick: the same shorter questions as the tables'.
    """
    out.mkdir(parents=True, exist_ok=True)
    plots = {
        "budget": lambda axes: _budget(axes, list(budgets(bench, quick=quick))),
        "steps": lambda axes: _steps(axes, list(steps(bench, quick=quick))),
        "sequence": lambda axes: _sequence(axes, list(sequences(bench, quick=quick))),
    }
    for name, plot in plots.items():
        yield _saved(out / f"{name}.png", plot)


def _budget(axes: Any, rows: Sequence[Row]) -> None:
    """Rows are named `CNS 5.8 %`, `random 5.8 %`."""
    for name in ("CNS", "random"):
        these = [row for row in rows if row.name.startswith(f"{name} ")]
        shares = [float(row.name.split()[1]) for row in these]
        _line(axes, shares, these, name)
    axes.set(xscale="log", xlabel="share of the K/V weights that is trained, %")
    ticks = sorted({float(row.name.split()[1]) for row in rows})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()


def _steps(axes: Any, rows: Sequence[Row]) -> None:
    """Rows are named `150 steps`."""
    _line(axes, [int(row.name.split()[0]) for row in rows], rows, "CNS")
    axes.set(xlabel="steps of 4 pictures")


def _sequence(axes: Any, rows: Sequence[Row]) -> None:
    """Rows come in pairs, `CNS: right after` and `CNS: at the end`."""
    for after, end in zip(rows[::2], rows[1::2], strict=True):
        _line(axes, [0, 1], [after, end], after.name.split(":")[0])
    axes.set(xlim=(-0.2, 1.2))
    axes.set_xticks([0, 1], ["right after learning it", "after learning all of them"])


def _line(axes: Any, x: Sequence[float], rows: Sequence[Row], name: str) -> None:
    axes.errorbar(
        x, [r.mean for r in rows], [r.spread or 0 for r in rows], color=COLOURS[name], label=name, marker="o", capsize=3
    )


def _saved(path: Path, plot: Any) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    plot(axes)
    axes.set(ylabel="error removed, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})
    return path
