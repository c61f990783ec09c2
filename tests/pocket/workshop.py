"""Running tiny stages, and reading what they logged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pocket.training.plan import TrainSpec, trained


def run(folder: Path, *stages: str, **settings) -> list:
    spec = TrainSpec(work=folder, out=folder / "weights", stages=stages, n_scenes=96, seed=3, tiny=True, tiny_steps=15)
    return list(trained(replace(spec, **settings)))


def losses(folder: Path, stage: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["stage"] == stage and "loss" in line]
