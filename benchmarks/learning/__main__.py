"""`python -m benchmarks.learning [QUESTION ...] --out FOLDER`: train, measure, print tables.

Owns arguments and printing; must not know how anything is measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.learning.rows import Row

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded, as cnsctl sets it


def main() -> None:
    from benchmarks.learning.questions import QUESTIONS

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning",
        description="Train concepts, measure them and their controls, and print one table per question.",
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)} [default: all]")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("learning.bench"),
        help="folder of results; a later run continues there [default: learning.bench]",
    )
    parser.add_argument("--base", type=Path, help="folder of the base model [default: pocket]")
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="plot budgets, steps and sequences (needs matplotlib)"
    )
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="also write a sheet of images per question")
    parser.add_argument("--quick", action="store_true", help="20 steps, one to three concepts, one noise seed")
    options = parser.parse_args()
    if unknown := [q for q in options.questions if q not in QUESTIONS]:
        parser.error(f"unknown question {unknown[0]!r}; questions: {', '.join(QUESTIONS)}")
    answer(options.questions or list(QUESTIONS), options)


def answer(questions: list[str], options: argparse.Namespace) -> None:
    """Answer questions one after another, printing each row as soon as it is measured; then write the plots."""
    import torch

    from benchmarks.learning.bench import Bench
    from benchmarks.learning.questions import QUESTIONS
    from benchmarks.learning.sheets import sheet
    from benchmarks.learning.tables import heading, line
    from cnsctl.bases import base_folder, devices, registry

    device, dtype = devices.choose("auto", "auto")
    folder, quick = options.base or base_folder.POCKET, options.quick
    base = registry.load(base_folder.open_folder(folder), device=device, dtype=dtype, hash_weights=True)
    bench = Bench(base, options.out, folder=folder, steps=20 if quick else None, noises=(1,) if quick else (1, 2, 3))
    settings = ", ".join(f"{name} {value:g}" for name, value in sorted(bench.defaults.items()))
    say(f"{base.name} {base.fingerprint[:12]}, {device}, {devices.dtype_name(dtype)}, torch {torch.__version__}")
    say(f"{platform.machine()}, {os.cpu_count()} cores; {settings}\n")
    answered: dict[str, list[Row]] = {}
    for question in questions:
        began, columns = time.monotonic(), None
        rows = answered[question] = []
        for row in QUESTIONS[question](bench, quick=quick):
            if columns is None:
                columns = list(row.cells)
                say(heading(question, QUESTIONS[question].__doc__ or "", row, columns))
            say(line(row, columns))
            rows.append(row)
        say(f"\n`python -m benchmarks.learning {question}`: {time.monotonic() - began:.0f} s\n")
        if options.sheets is not None and (page := sheet(bench, question, rows)) is not None:
            options.sheets.mkdir(parents=True, exist_ok=True)
            path = options.sheets / f"{question}.jpg"
            page.convert("RGB").save(path, quality=90, optimize=True)
            say(f"{path}\n")
    if options.plots is not None:
        from benchmarks.learning.plots import write_plots

        for path in write_plots(answered, options.plots):
            say(str(path))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
