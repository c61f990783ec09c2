"""`python -m benchmarks.verdict --out FOLDER [--photographs FOLDER]`: train good and bad concepts on pocket.

Prints a table of all runs with their verdicts, and the usual ranges for `cnsctl.json`. A run takes about two minutes of CPU
time; a later call continues where this one stops. `photographs.py` makes the folder of photographs; without it, those runs
are left out. Images of each run, beside those of its class word and its own, are in FOLDER/images.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.verdict.ranges import Row

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded, as cnsctl sets it


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verdict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("verdict.bench"), help="results [default: verdict.bench]")
    parser.add_argument("--photographs", type=Path, help="folder that photographs.py wrote")
    parser.add_argument("--no-training", action="store_true", help="only print what is measured already")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runs, sets, own = (options.out / f"{name}.jsonl" for name in ("runs", "sets", "generated"))
    if not options.no_training:
        _measure(options.out, options.photographs, runs, sets, own)
    report(_read(runs), _read(sets), _read(own))


def _measure(out: Path, photographs: Path | None, runs: Path, sets: Path, own: Path) -> None:
    from benchmarks.verdict.cases import calibration, cases
    from benchmarks.verdict.runs import Bench

    bench = Bench(out)
    for file, wanted, measured in (
        (sets, calibration(), bench.images),
        (own, (case for case in cases(None) if case.kind == "good"), bench.generated),
        (runs, cases(photographs), bench.trained),
    ):
        known = {row["case"] for row in _read(file)}
        for case in (case for case in wanted if case.name not in known):
            with file.open("a") as lines:
                lines.write(json.dumps(measured(case)) + "\n")
            say([f"{case.kind}: {case.name}"])


def report(runs: list[Row], sets: list[Row], own: list[Row]) -> None:
    """Print the table, the ranges of images that pocket generates itself, and those of all sets and good runs."""
    from benchmarks.verdict.ranges import judged, of_images, usual
    from benchmarks.verdict.tables import table

    say(table(runs, judged(runs, sets)))
    say(["", f"of images that pocket generates itself: {json.dumps(of_images(own))}"] if own else [])
    say(["", json.dumps({"usual": usual(sets, [row for row in runs if row["kind"] == "good"])})])


def _read(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def say(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
