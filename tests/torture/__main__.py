"""`make torture`: the whole campaign, and one table of what it did.

Owns the counts of the whole campaign; must not know how a part works.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

from . import every_call, flips, fuzz, hostile, kills, machine, power, small_disk, writers  # noqa: E402  the path is set
from .tally import Tally  # noqa: E402
from .verbs import VERBS  # noqa: E402

PARTS: dict[str, Callable[[], Tally]] = {
    "each call fails": every_call.campaign,
    "the power fails": power.campaign,
    "kill -9": lambda: kills.campaign(1040),
    "writers at once": lambda: writers.campaign(8, 1000),
    "a full disk": small_disk.campaign,
    "bits flip": flips.campaign,
    "commands in any order": lambda: machine.campaign(300, 30),
    "hostile files and texts": hostile.campaign,
    "mutated files and texts": lambda: fuzz.campaign(2000),
}

IN_TESTS: dict[str, Callable[[], Tally]] = {
    "kill -9": lambda: kills.campaign(40),
    "writers at once": lambda: writers.campaign(4, 30),
}
"""What the tests run of the parts that make processes, which a test's process must not fork."""

COUNTS = ("faults", "kills", "operations", "inputs", "losses", "tracebacks")


def main() -> int:
    """Run the parts; 1 if something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--in-tests", action="store_true", help="only what the tests run in a process of its own")
    parts = IN_TESTS if parser.parse_args().in_tests else PARTS
    found: dict[str, tuple[Tally, float]] = {}
    for name, part in parts.items():
        began_s = _cpu_s()
        try:
            tally = part()
        except small_disk.NoMount as err:
            print(f"{name}: skipped: {err}", file=sys.stderr, flush=True)
            continue
        found[name] = tally, _cpu_s() - began_s
        print(f"{name}: {_cpu_s() - began_s:.0f} s of CPU", *tally.described, sep="\n  ", file=sys.stderr, flush=True)
    print(f"Commands: {', '.join(VERBS)}.\n")
    print("\n".join(table(found)))
    return int(any(tally.losses or tally.tracebacks for tally, _ in found.values()))


def table(found: dict[str, tuple[Tally, float]]) -> list[str]:
    """In Markdown, with the sums."""
    rows = [
        [name, *(f"{getattr(tally, count):,}" for count in COUNTS), f"{cpu_s:.0f}"]
        for name, (tally, cpu_s) in found.items()
    ]
    sums = [f"{sum(getattr(tally, count) for tally, _ in found.values()):,}" for count in COUNTS]
    rows.append(["**all**", *sums, f"{sum(cpu_s for _, cpu_s in found.values()):.0f}"])
    head = ["", "faults injected", "commands killed", "operations", "inputs tried", "losses", "tracebacks", "CPU s"]
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---", *["---:"] * 7], *rows)]


def _cpu_s() -> float:
    """Of this process and of those that it has waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


sys.exit(main())
