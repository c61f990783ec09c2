"""A row of a table: the concepts that were trained, the error that they remove, and the images on a sheet.

Owns rows and how they are measured; must not know the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.learning.bench import Bench, Removed, Scene, Variant
from benchmarks.learning.images import PLACES
from cnsctl.concept import DEFAULT_MODE, Delta, Mode
from cnsctl.engine.denoising_error import TIMES
from cnsctl.engine.overlay import EMPTY, Overlay
from cnsctl.engine.seeds import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

Trained = list[tuple[str, Delta]]
"""Concepts in training order."""

IN_A_ROW = 4
"""Images of a row on a sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The images of a row on a sheet."""

    overlay: Overlay
    prompts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table."""

    name: str
    cells: dict[str, float]
    """Figure by column. Of error removed, percent: per concept or pair, the mean over noise seeds."""
    spread: float | None = None
    """Of error removed: mean over the cells of the standard deviation over noise seeds."""
    shown: Shown | None = None

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.cells.values())))


def in_order(bench: Bench, names: Sequence[str], variant: Variant) -> Trained:
    """Train one after another; in merged mode each starts from the earlier ones."""
    trained: Trained = []
    for name in names:
        trained.append((name, bench.trained(name, variant, trained)))
    return trained


def one_after_another(
    bench: Bench, names: Sequence[str], variant: Variant, scenes_of: Callable[[str], list[Scene]]
) -> tuple[Trained, dict[str, Removed], dict[str, Removed]]:
    """Train a sequence in merged mode; error removed by each right after its training, and at the end."""
    trained = in_order(bench, names, variant)
    after = {n: bench.removed(trained[: i + 1], Mode.MERGED, scenes_of(n)) for i, n in enumerate(names)}
    return trained, after, {n: bench.removed(trained, Mode.MERGED, scenes_of(n)) for n in names}


def free_after(trained: Trained) -> dict[str, float]:
    """Share of the K/V weights, percent, that no concept owns after each: the free share of `cnsctl ls`."""
    owned: dict[str, NDArray[np.int64]] = {}
    free = {}
    for name, delta in trained:
        owned = {s: np.union1d(owned[s], flat) if s in owned else flat for s, flat in delta.indices.items()}
        total = sum(rows * columns for rows, columns in delta.shapes.values())
        free[name] = 100 * (1 - sum(map(len, owned.values())) / total)
    return free


def row_alone(bench: Bench, name: str, variant: Variant, who: Sequence[str]) -> Row:
    """Train each concept by itself and measure it on its held-out scenes."""
    trained = [(c, bench.trained(c, variant)) for c in who]
    found = {one[0]: bench.removed([one], variant.mode, elsewhere(bench, one[0])) for one in trained}
    return row_of(name, found, shown_of(bench, trained[:1], variant.mode))


def elsewhere(bench: Bench, name: str) -> list[Scene]:
    scenes = bench.scenes_of(name)
    assert scenes, name
    return scenes


def shown_of(bench: Bench, trained: Trained, mode: Mode) -> Shown:
    """The concepts in turn, each place once."""
    prompts = (f"a <{trained[i % len(trained)][0]}> {PLACES[i]}" for i in range(IN_A_ROW))
    return Shown(overlay=bench.overlay(trained, mode), prompts=tuple(prompts))


def beside_class_word(bench: Bench, name: str, delta: Delta) -> Shown:
    """The class word in two places, then the concept in the same two."""
    who = (bench.bare[name], f"a <{name}>")
    prompts = tuple(f"{what} {place}" for what in who for place in PLACES[: IN_A_ROW // 2])
    return Shown(overlay=bench.overlay([(name, delta)], DEFAULT_MODE), prompts=prompts)


def prompt_only_shown(described: str) -> Shown:
    """The prompt-only baseline, each place once."""
    return Shown(overlay=EMPTY, prompts=tuple(f"{described} {place}" for place in PLACES[:IN_A_ROW]))


def row_of(name: str, found: dict[str, Removed], shown: Shown | None = None) -> Row:
    return Row(
        name=name,
        shown=shown,
        cells={c: one.mean for c, one in found.items()},
        spread=float(np.mean([one.spread for one in found.values()])),
    )


def row_by_level(name: str, found: Sequence[Removed], shown: Shown | None = None) -> Row:
    return Row(name=name, shown=shown, cells={f"{t:g}": v for t, v in zip(TIMES, pooled(found).by_level, strict=True)})


def mean_of(found: Iterable[Removed]) -> float:
    """Mean over concepts or pairs, each with the same weight."""
    return float(np.mean([one.mean for one in found]))


def pooled(found: Sequence[Removed]) -> Removed:
    """The errors of several orders, or of several concepts, together."""
    return Removed(said=np.sum([one.said for one in found], axis=0), bare=np.sum([one.bare for one in found], axis=0))


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    return [names[i] for i in torch.randperm(len(names), generator=stream("order", seed)).tolist()]
