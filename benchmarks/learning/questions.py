"""The questions: what is learned in which ways, and what is measured; each gives one table.

Owns which variants are compared; must not know how tables look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.learning.bench import Bench, Removed, Scene, Variant, varied
from benchmarks.learning.drawings import PLACES, SEEDS, halves, likenesses
from cnsctl.engine.overlay import EMPTY, Overlay
from cnsctl.engine.seeds import stream
from cnsctl.engine.verify import FIT_TIMES
from cnsctl.specs import DEFAULT_MODE, Delta, Mode, Policy

if TYPE_CHECKING:
    Learned = list[tuple[str, Delta]]

EXAMPLES = ("dog", "hat", "cat", "robot", "castle")
IN_A_ROW = 4
"""Pictures of a row on a sheet."""
NAMED = {"both": slice(0), "the first": slice(1), "the second": slice(1, 2)}
"""Of two concepts, those that a prompt names; nothing: all that there are."""
SWEEP = ("blue-fox", "orange-owl", "red-car", "cyan-mushroom")
VALUES_AT, TOKEN_AT = (1e-3, 3e-3, 5e-3, 1e-2, 3e-2), (1e-3, 5e-3, 2e-2, 5e-2)
"""Learning rates of values and token that are tried."""
RATES = (
    *((values, 5e-3) for values in (1e-3, 3e-3, 1e-2, 3e-2)),
    *((3e-3, token) for token in (1e-3, 2e-2, 5e-2)),
    *((values, 2e-2) for values in (5e-3, 1e-2)),
)
"""Both together, for alone and two in one prompt."""
PULLS = ((0.0, 0.0), (5e-2, 0.0), (0.5, 0.0), (5.0, 0.0), (0.0, 2e-3), (5e-2, 2e-3), (5e-2, 2e-4))
"""λ_prev and λ_base that are tried together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a sheet draws beside a row's figures."""

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


def controls(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """What CNS removes beside words that describe it, V* alone, a random mask of equal size, and all K/V weights."""
    who = EXAMPLES[:2] if quick else EXAMPLES
    yield _row("told in words", {c: bench.told(_elsewhere(bench, c)) for c in who})
    for name in ("CNS", "random", "V* alone"):
        yield _alone(bench, name, _variant(name), who)
    for rate in (1e-3,) if quick else (2e-4, 5e-4, 1e-3, 2e-3, 5e-3):
        yield _alone(bench, f"all K/V at {rate:g}", _variant("all K/V", rate_values=rate), who)


def seeds(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """How far the chance of one learning reaches: the same with other seeds, and so with other random masks."""
    who = EXAMPLES[:2] if quick else EXAMPLES
    for seed in range(2 if quick else 3):
        for name in ("CNS", "random"):
            yield _alone(bench, f"{name}, seed {seed}", _variant(name, **({"seed": seed} if seed else {})), who)


def levels(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """At which noise levels error is removed, percent: form is decided at the high ones, detail at the low."""
    who = EXAMPLES[:2] if quick else EXAMPLES
    scenes = [s for c in who for s in _elsewhere(bench, c)]
    yield _by_level("told in words", [bench.told(scenes)])
    for name in ("CNS", "random", "V* alone"):
        variant = _variant(name)
        found = [bench.removed([(c, bench.learned(c, variant))], variant.mode, _elsewhere(bench, c)) for c in who]
        yield _by_level(name, found)


def modes(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """One concept by itself in each mode of a store."""
    for mode in Mode:
        yield _alone(bench, str(mode), replace(Variant(), mode=mode), EXAMPLES[:2] if quick else EXAMPLES)


def budgets(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Share of the K/V weights that is trained, by score and at random."""
    for budget in (0.02, 0.25) if quick else (0.01, 0.02, 0.058, 0.12, 0.25, 1.0):
        for name in ("CNS", "random"):
            yield _alone(bench, f"{name} {100 * budget:g} %", _variant(name, budget=budget), _sweep(quick))


def steps(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """How long it is trained."""
    for count in (10, 20) if quick else (40, 80, 150, 240, 480):
        yield _alone(bench, f"{count} steps", _variant(steps=count), _sweep(quick))


def rates(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Learning rates of values and token, each beside the default of the other."""
    for rate in VALUES_AT[:2] if quick else VALUES_AT:
        yield _alone(bench, f"values at {rate:g}", _variant(rate_values=rate), _sweep(quick))
    for rate in TOKEN_AT[:2] if quick else TOKEN_AT:
        yield _alone(bench, f"token at {rate:g}", _variant(rate_vectors=rate), _sweep(quick))


def tokens(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Token vectors, and the share of the steps that trains them alone, before the score."""
    for vectors in (1, 2) if quick else (1, 2, 4):
        yield _alone(bench, f"{vectors} vectors", _variant(vectors=vectors), _sweep(quick))
    for share in (0.0, 0.2) if quick else (0.0, 0.2, 0.5):
        yield _alone(bench, f"warm-up {100 * share:g} %", _variant(warmup=share), _sweep(quick))


def selections(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Which neurons: the score's and what might do as well."""
    few = ("CNS", "random", "V alone")
    every = (*few, "K alone", "general kept", "rows", "V* in the score")
    for name in few if quick else every:
        yield _alone(bench, name, _variant(name), _sweep(quick))


def together(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Two concepts in one prompt, on scenes that show both: both named, either named, in each mode; and told in words."""
    scenes = [s for s in bench.scenes if s.kind in ("pair", "hat")]
    shown = _by_pair([s for s in scenes if set(s.concepts) <= {"dog", "hat"}] if quick else scenes)
    names = sorted({name for pair in shown for name in pair.concepts}, key=EXAMPLES.index)
    for says in NAMED:
        by_words = {_title(p): bench.told(found, named=p.concepts[NAMED[says]]) for p, found in shown.items()}
        yield _row(f"in words: {says}", by_words)
    for mode in Mode:
        known = dict(in_order(bench, names, replace(Variant(), mode=mode)))
        for says in NAMED:
            sheet = _two_shown(bench, known, mode, next(iter(shown)), says)
            yield _row(f"{mode}: {says} named", _two_named(bench, known, mode, shown, says), sheet)


def pairs(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Alone and two in one prompt, on the individuals of the sweep, by rate, by mode, and with all K/V weights.

    Error removed, %: each by itself; then on scenes that show two, with both named and with either.
    """
    scenes = [s for s in bench.scenes if s.kind == "sweep-pair"]
    shown = _by_pair([s for s in scenes if set(s.concepts) <= set(SWEEP[:2])] if quick else scenes)
    names = [name for name in SWEEP if any(name in pair.concepts for pair in shown)]
    by_words = {
        says: _pooled([bench.told(s, named=p.concepts[NAMED[says]]) for p, s in shown.items()]) for says in NAMED
    }
    alone = float(np.mean([bench.told(_elsewhere(bench, n)).mean for n in names]))
    yield Row(name="told in words", cells={"alone": alone, **{says: found.mean for says, found in by_words.items()}})
    ways = {
        f"values {values:g}, token {token:g}": _variant(rate_values=values, rate_vectors=token)
        for values, token in (RATES[:2] if quick else RATES)
    }
    if not quick:
        ways |= {f"all K/V at {rate:g}": _variant("all K/V", rate_values=rate) for rate in (1e-3, 2e-3)}
    ways |= {str(mode): replace(Variant(), mode=mode) for mode in Mode if mode is not DEFAULT_MODE}
    for label, variant in ways.items():
        known = dict(in_order(bench, names, variant))
        by_itself = [
            bench.removed(_acting(known, variant.mode, [n]), variant.mode, _elsewhere(bench, n)) for n in names
        ]
        by_name = {
            says: _pooled(list(_two_named(bench, known, variant.mode, shown, says).values())).mean for says in NAMED
        }
        yield Row(name=label, cells={"alone": float(np.mean([one.mean for one in by_itself])), **by_name})


def bleeding(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Pairs drawn side by side, each half by CLIP: likeness to its own concept, to the other's, and the nearer's share.

    Beside learned pairs: what the class words draw, what full descriptions draw, and the held-out scenes themselves.
    """
    shown = [s for s in bench.scenes if s.kind == "pair"]
    shown = [s for s in shown if set(s.concepts) <= {"dog", "hat"}] if quick else shown
    names = sorted({name for s in shown for name in s.concepts}, key=EXAMPLES.index)
    seeds = SEEDS[:1] if quick else SEEDS[:2]
    ways: dict[str, tuple[Overlay, Mapping[str, str]]] = {
        "class words": (EMPTY, bench.class_words),
        "told in words": (EMPTY, bench.described),
    }
    for mode in Mode:
        ways[str(mode)] = (bench.overlay(in_order(bench, names, replace(Variant(), mode=mode)), mode), {})
    for name, found in halves(bench, ways, shown, seeds=seeds).items():
        yield Row(name=name, cells={"own": found.own, "other": found.other, "right": found.right})


def agreement(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Error removed on the training pictures beside CLIP-I of drawn ones; last, rank correlation with error removed."""
    names = [one["name"] for one in bench.catalogue if one["level"] in ("colours", "attributes")][: 3 if quick else 10]
    learned = [(name, bench.learned(name, Variant())) for name in names]
    places, seeds = (PLACES[:2], (0,)) if quick else (PLACES[:4], SEEDS[:2])
    found = likenesses(bench, learned, places=places, seeds=seeds)
    columns: dict[str, dict[str, float]] = {
        name: {
            "error removed": bench.removed([(name, delta)], DEFAULT_MODE, bench.training_scenes(name)).mean,
            "CLIP-I": found[name].clip_i,
            "gained": found[name].clip_i - found[name].clip_i_class,
        }
        for name, delta in learned
    }
    for name, cells in columns.items():
        yield Row(name=name, cells=cells)
    table = np.array([list(cells.values()) for cells in columns.values()])
    ranks = table.argsort(0).argsort(0)
    yield Row(
        name="rank correlation",
        cells=dict(zip(cells, np.atleast_2d(np.corrcoef(ranks.T))[0].tolist(), strict=True)),
    )


def pulls(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Merged, the individuals of the sweep in a row, by λ_prev and λ_base.

    Error removed, %: by each right after it was learned; at the end; then on scenes that show two, both named.
    """
    names = SWEEP[:2] if quick else SWEEP
    shown = _by_pair([s for s in bench.scenes if s.kind == "sweep-pair" and set(s.concepts) <= set(names)])
    for prev, base in PULLS[:2] if quick else PULLS:
        variant = replace(_variant(lambda_prev=prev, lambda_base=base), mode=Mode.MERGED)
        learned, after, end = one_after_another(bench, names, variant, bench.scenes_of)
        both = _two_named(bench, dict(learned), Mode.MERGED, shown, "both")
        columns = {"right after": after, "at the end": end, "both named": both}
        cells = {column: _pooled(list(found.values())).mean for column, found in columns.items()}
        yield Row(name=f"{prev:g}, {base:g}", cells=cells, shown=_shown(bench, learned, Mode.MERGED))


def sequences(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Merged, all five in a row: what each removes right after it was learned, and at the end."""
    ways = {
        "CNS": Variant(mode=Mode.MERGED),
        "CNS, λ = 0": Variant(mode=Mode.MERGED, spec={"lambda_prev": 0.0, "lambda_base": 0.0}),
        "random": Variant(mode=Mode.MERGED, selection="random"),
        "all K/V": Variant(mode=Mode.MERGED, selection="all K/V", spec={"rate_values": 1e-3}),
    }
    orders = [_shuffled(EXAMPLES[:3] if quick else EXAMPLES, seed) for seed in range(1 if quick else 3)]
    for name, variant in ways.items():
        afters: dict[str, list[Removed]] = {}
        ends: dict[str, list[Removed]] = {}
        for names in orders:
            learned, after, end = one_after_another(bench, names, variant, bench.scenes_of)
            for concept in names:
                afters.setdefault(concept, []).append(after[concept])
                ends.setdefault(concept, []).append(end[concept])
        yield _row(f"{name}: right after", {c: _pooled(found) for c, found in afters.items()})
        at_end = _shown(bench, learned, Mode.MERGED)
        yield _row(f"{name}: at the end", {c: _pooled(found) for c, found in ends.items()}, at_end)


def capacity(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Merged, a stream of twenty individuals, by policy: right after learning and at the end, on their own pictures."""
    names = [one["name"] for one in bench.catalogue][: 3 if quick else 20]
    for policy in ("overlap", "orthogonal", "prefer-free", "exclusive"):
        how = {"orthogonal": True} if policy == "orthogonal" else {"policy": Policy(policy)}
        variant = Variant(mode=Mode.MERGED, spec={**how, "budget": 0.045})  # exclusive fits twenty times
        learned, after, end = one_after_another(bench, names, variant, bench.training_scenes)
        yield _row(f"{policy}: right after", after)
        yield _row(f"{policy}: at the end", end, _shown(bench, learned, Mode.MERGED))


def pictures(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Drawn pictures beside the class word's on the same seeds: CLIP-I, whose set is nearest, CLIP-T, and the place.

    "told" is what the base draws when words say all that they can, "closed" the share of the gap between class word
    and real, "nearest" how often the nearest set is its own; "real's" are held-out scenes against captions with the
    class word, "place" is how often the place that was asked for is the nearest of all.
    """
    who = EXAMPLES[:1] if quick else EXAMPLES
    learned = [(name, bench.learned(name, Variant())) for name in who]
    places, seeds = (PLACES[:2], (0,)) if quick else (PLACES, SEEDS)
    for name, found in likenesses(bench, learned, places=places, seeds=seeds).items():
        yield Row(
            name=name,
            cells={
                "CLIP-I": found.clip_i,
                "class word": found.clip_i_class,
                "told": found.clip_i_told,
                "real": found.clip_i_real,
                "closed": found.closed,
                "nearest": found.nearest,
                "CLIP-T": found.clip_t,
                "class word's": found.clip_t_class,
                "told's": found.clip_t_told,
                "real's": found.clip_t_real,
                "place": found.place,
                "its place": found.place_class,
            },
        )


QUESTIONS: dict[str, Callable[..., Iterator[Row]]] = {
    "controls": controls,
    "seeds": seeds,
    "levels": levels,
    "modes": modes,
    "budgets": budgets,
    "steps": steps,
    "rates": rates,
    "tokens": tokens,
    "selections": selections,
    "pairs": pairs,
    "together": together,
    "bleeding": bleeding,
    "pulls": pulls,
    "sequences": sequences,
    "capacity": capacity,
    "pictures": pictures,
    "agreement": agreement,
}


def in_order(bench: Bench, names: Sequence[str], variant: Variant) -> Learned:
    """Learn one after another; in merged each stands on those before."""
    learned: Learned = []
    for name in names:
        learned.append((name, bench.learned(name, variant, learned)))
    return learned


def one_after_another(
    bench: Bench, names: Sequence[str], variant: Variant, scenes_of: Callable[[str], list[Scene]]
) -> tuple[Learned, dict[str, Removed], dict[str, Removed]]:
    """Learn a sequence in merged; what each removes right after it was learned, and what it removes at the end."""
    learned = in_order(bench, names, variant)
    after = {n: bench.removed(learned[: i + 1], Mode.MERGED, scenes_of(n)) for i, n in enumerate(names)}
    return learned, after, {n: bench.removed(learned, Mode.MERGED, scenes_of(n)) for n in names}


def _variant(selection: str = "CNS", **spec: float) -> Variant:
    if selection == "V* alone":
        spec = {**spec, "warmup": 1.0}
    return varied(Variant(selection=selection), **spec)


def _alone(bench: Bench, name: str, variant: Variant, who: Sequence[str]) -> Row:
    """Each concept learned by itself, measured on its held-out scenes."""
    learned = [(c, bench.learned(c, variant)) for c in who]
    found = {one[0]: bench.removed([one], variant.mode, _elsewhere(bench, one[0])) for one in learned}
    return _row(name, found, _shown(bench, learned[:1], variant.mode))


@dataclass(frozen=True, slots=True)
class _Pair:
    kind: str
    concepts: tuple[str, ...]
    """In the order of the alphabet, whoever stands left."""


def _by_pair(scenes: Sequence[Scene]) -> dict[_Pair, list[Scene]]:
    found: dict[_Pair, list[Scene]] = {}
    for scene in scenes:
        found.setdefault(_Pair(scene.kind, tuple(sorted(scene.concepts))), []).append(scene)
    return found


def _title(pair: _Pair) -> str:
    return f"{pair.kind} {' '.join(pair.concepts)}"


def _two_named(
    bench: Bench, known: Mapping[str, Delta], mode: Mode, shown: Mapping[_Pair, list[Scene]], says: str
) -> dict[str, Removed]:
    """By pair: error removed on its scenes when both are named, or one and the other's class word."""
    return {
        _title(pair): bench.removed(_acting(known, mode, pair.concepts), mode, scenes, named=pair.concepts[NAMED[says]])
        for pair, scenes in shown.items()
    }


def _two_shown(bench: Bench, known: Mapping[str, Delta], mode: Mode, pair: _Pair, says: str) -> Shown:
    named = pair.concepts[NAMED[says]] or pair.concepts
    who = [f"<{n}>" if n in named else f"a {bench.class_words[n]}" for n in pair.concepts]
    texts = (f"{who[0]} on the left and {who[1]} on the right {place}" for place in PLACES[:IN_A_ROW])
    return Shown(overlay=bench.overlay(_acting(known, mode, pair.concepts), mode), prompts=tuple(texts))


def _acting(known: Mapping[str, Delta], mode: Mode, named: Sequence[str]) -> Learned:
    """In merged every concept acts; in the other modes those that a prompt names."""
    return [(n, delta) for n, delta in known.items() if mode is Mode.MERGED or n in named]


def _elsewhere(bench: Bench, name: str) -> list[Scene]:
    scenes = bench.scenes_of(name)
    assert scenes, name
    return scenes


def _shown(bench: Bench, learned: Learned, mode: Mode) -> Shown:
    """The first concepts learned in turn, each place once."""
    prompts = (f"a <{learned[i % len(learned)][0]}> {PLACES[i]}" for i in range(IN_A_ROW))
    return Shown(overlay=bench.overlay(learned, mode), prompts=tuple(prompts))


def _row(name: str, found: dict[str, Removed], shown: Shown | None = None) -> Row:
    return Row(
        name=name,
        shown=shown,
        cells={c: one.mean for c, one in found.items()},
        spread=float(np.mean([one.spread for one in found.values()])),
    )


def _by_level(name: str, found: Sequence[Removed]) -> Row:
    return Row(name=name, cells={f"{t:g}": v for t, v in zip(FIT_TIMES, _pooled(found).by_level, strict=True)})


def _pooled(found: Sequence[Removed]) -> Removed:
    """Of several orders or concepts: their errors together."""
    return Removed(said=np.sum([one.said for one in found], axis=0), bare=np.sum([one.bare for one in found], axis=0))


def _shuffled(names: Sequence[str], seed: int) -> list[str]:
    return [names[i] for i in torch.randperm(len(names), generator=stream("order", seed)).tolist()]


def _sweep(quick: bool) -> tuple[str, ...]:
    return SWEEP[:1] if quick else SWEEP
