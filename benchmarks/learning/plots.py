"""Three plots of the results: by budget, by steps, and over a sequence.

Owns their appearance; must not know how anything is measured. Needs matplotlib: `pip install -e '.[bench]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.learning.rows import Row

COLOURS = {"CNS": "#4c3fbf", "random": "#c4762b", "CNS, no pull": "#2f9e8f", "all K/V": "#8a8a8a"}


def write_plots(rows: Mapping[str, Sequence[Row]], out: Path) -> Iterator[Path]:
    """Write `budgets.png`, `steps.png`, `sequences.png`, of the questions that were answered; yield each path.

    Args:
        rows: by question.
        out: folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    for question, plot in PLOTS.items():
        if question in rows:
            yield _saved(out / f"{question}.png", plot, rows[question])


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
    axes.set(xlabel="steps, batch size 4")


def _sequence(axes: Any, rows: Sequence[Row]) -> None:
    """Rows come in pairs, `CNS: right after` and `CNS: at the end`."""
    for after, end in zip(rows[::2], rows[1::2], strict=True):
        _line(axes, [0, 1], [after, end], after.name.split(":")[0])
    axes.set(xlim=(-0.2, 1.2))
    axes.set_xticks([0, 1], ["right after training it", "after training all of them"])


def _line(axes: Any, x: Sequence[float], rows: Sequence[Row], name: str) -> None:
    axes.errorbar(
        x, [r.mean for r in rows], [r.spread or 0 for r in rows], color=COLOURS[name], label=name, marker="o", capsize=3
    )


PLOTS: dict[str, Callable[[Any, Sequence[Row]], None]] = {
    "budgets": _budget,
    "steps": _steps,
    "sequences": _sequence,
}


def _saved(path: Path, plot: Callable[[Any, Sequence[Row]], None], rows: Sequence[Row]) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    plot(axes, rows)
    axes.set(ylabel="error removed, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})
    return path
