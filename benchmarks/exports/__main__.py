"""Exported concepts in a stock pipeline: `python -m benchmarks.exports` writes docs/results/exports.md.

It trains the five concepts of `benchmarks.learning`, exports each of them in several ways, loads the files with the stock
loaders of diffusers and peft, and measures the error that the concepts remove there. A later run on the same folder of
results continues.

Owns arguments and order; must not know how anything is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.exports.tables import Line, Measured

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded, as cnsctl sets it

PAGE = Path(__file__).parents[2] / "docs/results/exports.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exports", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="measure some: one, two, images, choices, costs")
    parser.add_argument("--out", type=Path, default=Path("exports.bench"), help="folder of results and files")
    parser.add_argument("--quick", action="store_true", help="20 steps, two concepts, two scenes, two ranks; no page")
    parser.add_argument("-o", "--output", type=Path, default=PAGE, help="the page")
    options = parser.parse_args()
    found = opened(options.out, quick=options.quick)
    asked = questions(found, list(found.trained), quick=options.quick)
    if unknown := [name for name in options.tables if name not in asked]:
        parser.error(f"unknown table {unknown[0]!r}; tables: {', '.join(asked)}")
    saved = options.out / "tables.json"
    for name in options.tables or asked:
        say(f"\n{name}")
        lines = []
        for line in asked[name]:
            say(shown(line))
            lines.append(line)
        keep(saved, name, lines)
    known = kept(saved)
    if not options.quick and set(known) == set(asked):
        from benchmarks.exports.page import page

        options.output.write_text("\n".join(page(known, machine())) + "\n", encoding="utf-8")


def keep(saved: Path, name: str, lines: list[Line]) -> None:
    """Save a table: another run measures the others, and the page is written as soon as all are known."""
    tables = {**kept(saved), name: lines}
    saved.write_text(json.dumps({n: [asdict(line) for line in t] for n, t in tables.items()}), encoding="utf-8")


def kept(saved: Path) -> dict[str, list[Line]]:
    """The tables that are saved."""
    from benchmarks.exports.tables import Line

    found = json.loads(saved.read_text(encoding="utf-8")) if saved.is_file() else {}
    return {name: [Line(**line) for line in table] for name, table in found.items()}


def opened(out: Path, *, quick: bool) -> Measured:
    """Load pocket and train the concepts, or read them from an earlier run."""
    from benchmarks.exports.tables import NOISE, Measured
    from benchmarks.learning.bench import Bench, Variant
    from benchmarks.learning.questions import FIVE
    from cnsctl.bases import base_folder, devices, registry

    device, dtype = devices.choose("auto", "fp32")
    base = registry.load(base_folder.open_folder(base_folder.POCKET), device=device, dtype=dtype, hash_weights=True)
    bench = Bench(base, out, steps=20 if quick else None, noises=(NOISE,))
    trained = {name: bench.trained(name, Variant()) for name in (FIVE[:2] if quick else FIVE)}
    return Measured(bench, trained, out / "files", n_scenes=2 if quick else None)


def questions(found: Measured, names: list[str], *, quick: bool) -> dict[str, Iterator[Line]]:
    """The tables, each with its rows, which are measured when they are read."""
    from benchmarks.exports import tables
    from benchmarks.exports.costs import costs

    ranks = (2, 8) if quick else tables.RANKS
    return {
        "one": tables.one(found, names, ranks),
        "two": tables.two(found, names, (8,) if quick else (2, 8, 32)),
        "images": tables.images(found, names[:1] if quick else names, quick=quick),
        "choices": tables.choices(found, names, quick=quick),
        "costs": costs() if not quick else iter(()),
    }


def shown(line: Line) -> str:
    """A row for the terminal."""
    cells = [f"{name} {value:.2f}" for name, value in {**line.removed, **line.figures}.items()]
    mean = [f"removed {line.mean:.2f}"] if line.removed else []
    effect = [f"{n} {v:.2f}" for n in ("kept", "leak", "leak_frame", "bytes") if (v := getattr(line, n)) is not None]
    return f"{line.name}: {', '.join([*mean, *effect, *cells])}"


def machine() -> str:
    """What the figures belong to."""
    import diffusers
    import peft
    import torch

    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}, peft {peft.__version__}"
    return f"{platform.machine()}, {os.cpu_count()} cores, fp32, {versions}"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
