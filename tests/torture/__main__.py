"""`make torture`: the whole campaign, and one table of what it did.

Owns the counts of the whole campaign; must not know how a part works.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

from . import every_call, every_file, flips, fuzz, hostile, kills, machine, power, small_disk, writers
from .tally import Tally
from .verbs import VERBS

Unit = Callable[[], Tally]

PARTS: dict[str, list[Unit]] = {
    "writers at once": [partial(writers.campaign, 8, 1000)],
    "each call fails": [partial(every_call.campaign, [verb]) for verb in VERBS],
    "the power fails": [partial(power.campaign, [verb]) for verb in VERBS],
    "kill -9": [partial(kills.campaign, 70, [verb]) for verb in VERBS],
    "a full disk": [partial(small_disk.campaign, [verb]) for verb in VERBS],
    "commands in any order": [partial(machine.campaign, 200, 30)],
    "bits flip": [partial(flips.campaign, every=2)],
    "mutated files and texts": [partial(fuzz.campaign, 1000)],
    "hostile files and texts": [hostile.campaign],
    "files that cannot be read or are damaged": [
        partial(every_file.campaign, list(every_file.LINES)[at::4]) for at in range(4)
    ],
}
"""What each consists of. The last ones import libraries with threads; the others fork."""

IN_TESTS: dict[str, list[Unit]] = {
    "writers at once": [partial(writers.campaign, 4, 30)],
    "kill -9": [partial(kills.campaign, 25)],
}
"""What the tests run in a process of its own, because it forks."""

COUNTS = ("faults", "kills", "operations", "inputs", "losses", "tracebacks")


def main() -> int:
    """Run the parts; 1 if something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--in-tests", action="store_true", help="only what the tests run in a process of its own")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes")
    given = parser.parse_args()
    parts = IN_TESTS if given.in_tests else PARTS
    found = {name: (Tally(), 0.0) for name in parts}
    with multiprocessing.get_context("fork").Pool(given.jobs) as pool:
        units = [(name, unit) for name, units in parts.items() for unit in units]
        for name, tally, cpu_s in pool.imap_unordered(measured, units):
            found[name] = found[name][0] + tally, found[name][1] + cpu_s
            sys.stderr.write("\n  ".join([f"{name}: {cpu_s:.0f} s of CPU", *tally.described]) + "\n")
    sys.stdout.write("\n".join([f"Commands: {', '.join(VERBS)}.\n", *table(found), ""]))
    return int(any(tally.losses or tally.tracebacks for tally, _ in found.values()))


def measured(work: tuple[str, Unit]) -> tuple[str, Tally, float]:
    """What a unit has found, and the seconds of CPU that it took."""
    name, unit = work
    began_s = _cpu_s()
    try:
        tally = unit()
    except small_disk.NoMount as err:
        tally = Tally(described=[f"skipped: {err}"])
    return name, tally, _cpu_s() - began_s


def table(found: Mapping[str, tuple[Tally, float]]) -> list[str]:
    """In Markdown, with the sums."""
    rows = {name: [*(getattr(tally, count) for count in COUNTS), cpu_s] for name, (tally, cpu_s) in found.items()}
    rows["**all**"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    head = ["", "faults injected", "commands killed", "operations", "inputs tried", "losses", "tracebacks", "CPU s"]
    lines = [head, ["---", *["---:"] * 7], *([name, *(f"{n:,.0f}" for n in numbers)] for name, numbers in rows.items())]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _cpu_s() -> float:
    """Of this process and of those that it has waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    sys.exit(main())
