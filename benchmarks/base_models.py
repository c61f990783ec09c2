"""Costs of the published base models: `python -m benchmarks.base_models` writes docs/results/base-models.md.

It runs `python -m benchmarks.costs --shape …` for each shape, and writes the page after each of them. On a CPU, the times
are those of fp32 at 512 × 512 pixels, and the peaks, whose goals leave activations out, are measured at 128 × 128: without
bf16 instructions, a step in bf16 takes minutes. `--size` and `--peak-size` set other sizes, such as the true ones.

Owns the page; must not know how anything is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.full_size import GOALS, ratio
from benchmarks.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGE = Path(__file__).parents[1] / "docs/results/base-models.md"

SIZE_ON_CPUS, PEAK_SIZE_ON_CPUS = 512, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--peak-alone", nargs="*", choices=SHAPES, default=[], help="shapes without times")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--size", type=int, help="pixels per side of the images")
    parser.add_argument(
        "--peak-size", type=int, help=f"pixels per side for the peaks; on CPUs {PEAK_SIZE_ON_CPUS} by default"
    )
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    options = parser.parse_args()
    began = time.monotonic()
    found: list[dict[str, Any]] = []
    for shape in options.shapes:
        alone = shape in options.peak_alone
        found.append(measured(shape, options.dtype, options.size, peak_size=options.peak_size, peak_alone=alone))
        text = "\n".join(page(found, (time.monotonic() - began) / 60)) + "\n"
        options.output.write_text(text, encoding="utf-8")


def measured(shape: str, dtype: str, size: int | None, *, peak_size: int | None, peak_alone: bool) -> dict[str, Any]:
    """Run the benchmark of one shape, show its lines, and return its figures."""
    from cnsctl.bases import devices

    on_cpu = devices.choose("auto", "auto")[0].type == "cpu"
    if size is None and on_cpu:
        size = SIZE_ON_CPUS
    line = [sys.executable, "-m", "benchmarks.costs", "--shape", shape, "--dtype", dtype]
    if peak_size is None and on_cpu:
        peak_size = PEAK_SIZE_ON_CPUS
    line += ["--times-dtype", "fp32"] if on_cpu else []
    line += [] if peak_size is None else ["--peak-size", str(peak_size)]
    line += ["--peak-alone"] if peak_alone else []
    line += [] if size is None else ["--size", str(size)]
    last = ""
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as running:
        for text in running.stdout or ():
            sys.stdout.write(text)
            sys.stdout.flush()
            last = text
    if running.returncode:
        raise SystemExit(running.returncode)
    found: dict[str, Any] = json.loads(last.removeprefix("json").strip())
    return found


def page(found: Sequence[dict[str, Any]], minutes: float) -> Iterator[str]:
    """The lines of the page."""
    first, timed = found[0], [row for row in found if "init" in row]
    alone = [row["shape"] for row in found if row not in timed]
    shapes = " ".join(["--shapes", *(row["shape"] for row in found), *(["--peak-alone", *alone] if alone else [])])
    if first["peak size"] not in {PEAK_SIZE_ON_CPUS, first["size"]}:
        shapes += f" --peak-size {first['peak size']}"
    yield "# Costs of published base models"
    yield ""
    yield (
        "Time and memory of cnsctl at the size of published base models. Made by "
        f"`python -m benchmarks.base_models {shapes}` in {minutes:.0f} minutes: {first['machine']}."
    )
    yield ""
    yield "The configurations are the published ones. **The weights are random, so these figures say nothing about quality.**"
    yield "Real checkpoints have not been measured."
    yield ""
    yield "## Time"
    yield ""
    yield (
        "The batch size is 1; a denoising step computes two images, with and without the prompt. Each time was taken once, on a "
        "machine that may have run other programs."
    )
    yield ""
    yield from table(
        [
            [
                "base model",
                "image",
                "computing in",
                "`init`",
                "scoring",
                "training step",
                "denoising step",
                "apply",
                "delta",
            ],
            *(
                [row["model"], square(row), row["times in"], *(f"{row[k]:.1f} s" for k in SECONDS), delta(row)]
                for row in timed
            ),
        ]
    )
    yield ""
    yield "`init` reads and hashes the base model. Scoring: the general neurons, once per store, and the neurons of a concept."
    yield "Apply: K and V of one text with a concept."
    yield ""
    yield "## Memory of one training step"
    yield ""
    yield (
        f"At batch size 1 and {first['peak size']} × {first['peak size']} pixels, with the denoiser in bf16. The ratio is the "
        "peak without activations to the denoiser's weights."
    )
    yield ""
    yield from table(
        [
            ["base model", "`--memory`", "peak", "of it activations", "denoiser", "ratio", "goal"],
            *(
                [row["model"], name, *(f"{m[k] / 1e9:.2f} GB" for k in BYTES), f"{ratio(m):.2f} ×", goal(row, name)]
                for row in found
                for name, m in row["memory"].items()
            ),
        ]
    )
    yield ""
    yield "Activations are what autograd keeps of the forward pass. With `low` and `lowest` these are the borders of blocks."
    if any(m["waiting"] for row in found for m in row["memory"].values()):
        yield ""
        yield (
            "A CPU has no second memory, in which text encoders and decoder can wait. With `low` and `lowest` their weights are "
            "therefore left out of the peak: "
            + ", ".join(f"{row['memory']['lowest']['waiting'] / 1e9:.2f} GB ({row['model']})" for row in found)
            + ". On a card they come to the device for their own calls, one at a time."
        )


SECONDS = ("init", "scoring", "training step", "denoising step", "apply")
BYTES = ("peak", "activations", "denoiser")


def square(row: dict[str, Any]) -> str:
    return f"{row['size']} × {row['size']}"


def delta(row: dict[str, Any]) -> str:
    return f"{row['delta'] / 1e6:.1f} MB, {row['neurons']:,} neurons"


def goal(row: dict[str, Any], memory: str) -> str:
    return f"≤ {GOALS[row['shape']]:g} ×" if memory == "lowest" and row["shape"] in GOALS else "–"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    head, *others = rows
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in others)


if __name__ == "__main__":
    main()
