"""The questions: what is learned in which ways, and what is measured; each gives one table.

Owns which variants are compared; must not know how tables look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks.learning.bench import Bench, Removed, Scene, Variant, said, varied
from benchmarks.learning.drawings import PLACES, SEEDS, halves, likenesses
from benchmarks.learning.rows import (
    IN_A_ROW,
    Row,
    Shown,
    beside_class_word,
    elsewhere,
    free_after,
    in_order,
    in_words,
    mean_of,
    one_after_another,
    pooled,
    row_alone,
    row_by_level,
    row_of,
    shown_of,
)
from benchmarks.learning.twos import NAMED, Pair, acting, by_pair, two_in_words, two_named, two_shown, two_told
from cnsctl.concept import DEFAULT_MODE, Mode
from cnsctl.engine.overlay import EMPTY, Overlay
from cnsctl.engine.seeds import stream
from cnsctl.settings import Policy

FIVE = ("dog", "hat", "cat", "robot", "castle")
SWEEP = ("blue-fox", "orange-owl", "red-car", "cyan-mushroom")
RATES = (
    *((values, 5e-3) for values in (1e-3, 3e-3, 5e-3, 7e-3, 1e-2, 3e-2)),
    *((3e-3, token) for token in (1e-3, 2e-2, 5e-2)),
    (1e-2, 1e-2),
    *((values, 2e-2) for values in (5e-3, 1e-2)),
)
"""Both together, for alone and two in one prompt."""
BEST_OF_ALL = 1e-3
"""The values' rate at which all K/V weights remove most (`controls`)."""
ALL_FASTER = {"learning_rate": 2e-3, "token_learning_rate": 2e-2}
"""All K/V weights with a faster token: the most that was found for them."""
FOR_TWO = (*((values, token) for token in (5e-3, 2e-2) for values in (5e-3, 1e-2)), (7e-3, 5e-3))
"""Those that three seeds tell apart."""
PULLS = ((0.0, 0.0), (5e-2, 0.0), (0.5, 0.0), (5.0, 0.0), (0.0, 2e-3), (5e-2, 2e-4), (5e-2, 5e-4), (5e-2, 2e-3))
"""λ_prev and λ_base that are tried together."""


def controls(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """What CNS removes beside words that describe it, V* alone, a random mask of equal size, and all K/V weights."""
    who = FIVE[:2] if quick else FIVE
    told = {c: bench.told(elsewhere(bench, c)) for c in who}
    yield row_of("told in words", told, in_words(bench.described[who[0]]))
    for name in ("CNS", "random", "V* alone"):
        yield row_alone(bench, name, _variant(name), who)
    if not quick:
        yield row_alone(bench, "V* alone at 0.02", _variant("V* alone", token_learning_rate=2e-2), who)
    for rate in (1e-3,) if quick else (2e-4, 5e-4, 1e-3, 2e-3, 5e-3):
        yield row_alone(bench, f"all K/V at {rate:g}", _variant("all K/V", learning_rate=rate), who)


def seeds(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """How far the chance of one learning reaches: the same with other seeds, and so with other random masks.

    Beside the default: all K/V weights at their best rate, with the default's token and with a faster one.
    """
    who = FIVE[:2] if quick else FIVE
    ways = {
        "CNS": Variant(),
        "random": _variant("random"),
        f"all K/V at {BEST_OF_ALL:g}": _variant("all K/V", learning_rate=BEST_OF_ALL),
        "all K/V at 0.002, token 0.02": _variant("all K/V", **ALL_FASTER),
    }
    for seed in range(2 if quick else 3):
        for name, way in ways.items():
            variant = varied(way, seed=seed) if seed else way
            yield row_alone(bench, f"{name}, seed {seed}", variant, who)


def levels(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """At which noise levels error is removed, percent: form is decided at the high ones, detail at the low."""
    who = FIVE[:2] if quick else FIVE
    scenes = [s for c in who for s in elsewhere(bench, c)]
    yield row_by_level("told in words", [bench.told(scenes)], in_words(bench.described[who[0]]))
    for name in ("CNS", "random", "V* alone"):
        variant = _variant(name)
        learned = [(c, bench.learned(c, variant)) for c in who]
        found = [bench.removed([one], variant.mode, elsewhere(bench, one[0])) for one in learned]
        yield row_by_level(name, found, shown_of(bench, learned[:1], variant.mode))


def modes(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """One concept by itself in each mode of a store."""
    for mode in Mode:
        yield row_alone(bench, str(mode), Variant(mode=mode), FIVE[:2] if quick else FIVE)


def budgets(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Share of the K/V weights that is trained, by score and at random."""
    for budget in (0.02, 0.25) if quick else (0.01, 0.02, 0.058, 0.12, 0.25, 1.0):
        for name in ("CNS", "random")[: 1 if budget == 1 else 2]:
            yield row_alone(bench, f"{name} {100 * budget:g} %", _variant(name, budget=budget), _sweep(quick))


def steps(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """How long it is trained."""
    for count in (10, 20) if quick else (40, 80, 150, 240, 480):
        yield row_alone(bench, f"{count} steps", _variant(steps=count), _sweep(quick))


def tokens(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Token vectors, and the share of the steps that trains them alone, before the score."""
    for vectors in (1, 2) if quick else (1, 2, 4):
        yield row_alone(
            bench, f"{vectors} vector{'' if vectors == 1 else 's'}", _variant(vectors=vectors), _sweep(quick)
        )
    for share in (0.0, 0.2) if quick else (0.0, 0.2, 0.5):
        yield row_alone(bench, f"warm-up {100 * share:g} %", _variant(warmup=share), _sweep(quick))


def selections(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Which neurons: the score's and what might do as well."""
    few = ("CNS", "random", "V alone")
    every = (*few, "K alone", "general kept", "rows", "scored at V* + class", "scored at V*")
    for name in few if quick else every:
        yield row_alone(bench, name, _variant(name), _sweep(quick))


def together(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Two concepts in one prompt, on scenes that show both: both named, either named, in each mode; and told in words."""
    names, shown = _example_pairs(bench, quick)
    for says in NAMED:
        yield row_of(f"in words: {says}", two_told(bench, shown, says), two_in_words(bench, next(iter(shown)), says))
    for mode in Mode:
        known = dict(in_order(bench, names, Variant(mode=mode)))
        for says in NAMED:
            sheet = two_shown(bench, known, mode, next(iter(shown)), says)
            yield row_of(f"{mode}: {says} named", two_named(bench, known, mode, shown, says), sheet)


def holds(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Of the pairs of `together`, how many lose more error with both named than with either, by seed of the learning.

    Error removed, %: with both named, and with the better one alone.
    """
    names, shown = _example_pairs(bench, quick)
    yield _pairs_that_hold("in words", {says: two_told(bench, shown, says) for says in NAMED})
    for mode in Mode:
        for seed in range(1 if quick or mode is Mode.MERGED else 3):
            variant = varied(Variant(mode=mode), seed=seed) if seed else Variant(mode=mode)
            known = dict(in_order(bench, names, variant))
            by_name = {says: two_named(bench, known, mode, shown, says) for says in NAMED}
            yield _pairs_that_hold(str(mode) if mode is Mode.MERGED else f"{mode}, seed {seed}", by_name)


def pairs(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Alone and two in one prompt, on the individuals of the sweep, by rate, by mode, and with all K/V weights.

    Error removed, %: each by itself; then on scenes that show two, with both named and with either.
    """
    names, shown = _sweep_pairs(bench, quick)
    by_words = {says: mean_of(two_told(bench, shown, says).values()) for says in NAMED}
    alone = mean_of(bench.told(elsewhere(bench, n)) for n in names)
    first = next(iter(shown))
    yield Row(name="told in words", cells={"alone": alone, **by_words}, shown=two_in_words(bench, first, "both"))
    ways = {
        f"values {values:g}, token {token:g}": _variant(learning_rate=values, token_learning_rate=token)
        for values, token in (RATES[:2] if quick else RATES)
    }
    if not quick:
        ways |= {f"all K/V at {rate:g}": _variant("all K/V", learning_rate=rate) for rate in (BEST_OF_ALL, 2e-3)}
    ways |= {str(mode): Variant(mode=mode) for mode in Mode if mode is not DEFAULT_MODE}
    for label, variant in ways.items():
        yield _alone_and_two(bench, label, variant, names, shown)


def rates(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """The best rates of `pairs` and one between them, with three seeds: how far they lie apart, how far chance reaches.

    Error removed, %: as in `pairs`; each row is one seed of the learning.
    """
    names, shown = _sweep_pairs(bench, quick)
    for values, token in FOR_TWO[:2] if quick else FOR_TWO:
        for seed in range(1 if quick else 3):
            variant = _variant(learning_rate=values, token_learning_rate=token)
            variant = varied(variant, seed=seed) if seed else variant
            yield _alone_and_two(bench, f"values {values:g}, token {token:g}, seed {seed}", variant, names, shown)


def bleeding(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Pairs drawn side by side, each half by CLIP: likeness to its own concept, to the other's, and the nearer's share.

    Beside learned pairs: what the class words draw, what full descriptions draw, and the held-out scenes themselves.
    """
    shown = [s for s in bench.scenes if s.kind == "pair"]
    shown = [s for s in shown if set(s.concepts) <= {"dog", "hat"}] if quick else shown
    names = sorted({name for s in shown for name in s.concepts}, key=FIVE.index)
    seeds = SEEDS[:1] if quick else SEEDS[:2]
    ways: dict[str, tuple[Overlay, Mapping[str, str]]] = {
        "class words": (EMPTY, bench.bare),
        "told in words": (EMPTY, bench.described),
    }
    for mode in Mode:
        learned = in_order(bench, names, Variant(mode=mode))
        ways[str(mode)] = (bench.overlay(learned, mode), {})
    for name, found in halves(bench, ways, shown, seeds=seeds).items():
        overlay, words = ways.get(name, (EMPTY, {}))
        prompts = tuple(said(scene, words) for scene in shown[:IN_A_ROW])
        yield Row(
            name=name,
            cells={"own": found.own, "other": found.other, "right": found.right},
            shown=Shown(overlay=overlay, prompts=prompts) if name in ways else None,
        )


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
    for name, delta in learned:
        yield Row(name=name, cells=columns[name], shown=shown_of(bench, [(name, delta)], DEFAULT_MODE))
    table = np.array([list(cells.values()) for cells in columns.values()])
    ranks = table.argsort(0).argsort(0)
    yield Row(
        name="rank correlation",
        cells=dict(zip(columns[learned[0][0]], np.atleast_2d(np.corrcoef(ranks.T))[0].tolist(), strict=True)),
    )


def pulls(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Merged, the individuals of the sweep in a row, by λ_prev and λ_base.

    Error removed, %: by each right after it was learned; at the end; then on scenes that show two, both named.
    """
    names = SWEEP[:2] if quick else SWEEP
    shown = by_pair([s for s in bench.scenes if s.kind == "sweep-pair" and set(s.concepts) <= set(names)])
    for prev, base in PULLS[:2] if quick else PULLS:
        variant = replace(_variant(lambda_prev=prev, lambda_base=base), mode=Mode.MERGED)
        learned, after, end = one_after_another(bench, names, variant, bench.scenes_of)
        both = two_named(bench, dict(learned), Mode.MERGED, shown, "both")
        columns = {"right after": after, "at the end": end, "both named": both}
        cells = {column: mean_of(found.values()) for column, found in columns.items()}
        yield Row(name=f"{prev:g}, {base:g}", cells=cells, shown=shown_of(bench, learned, Mode.MERGED))


def sequences(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Merged, all five in a row: what each removes right after it was learned, and at the end."""
    ways = {
        "CNS": Variant(mode=Mode.MERGED),
        "CNS, no pull": Variant(mode=Mode.MERGED, settings={"lambda_prev": 0.0, "lambda_base": 0.0}),
        "random": Variant(mode=Mode.MERGED, selection="random"),
        "all K/V": Variant(mode=Mode.MERGED, selection="all K/V", settings={"learning_rate": BEST_OF_ALL}),
    }
    orders = [_shuffled(FIVE[:3] if quick else FIVE, seed) for seed in range(1 if quick else 3)]
    for name, variant in ways.items():
        afters: dict[str, list[Removed]] = {}
        ends: dict[str, list[Removed]] = {}
        for names in orders:
            learned, after, end = one_after_another(bench, names, variant, bench.scenes_of)
            for concept in names:
                afters.setdefault(concept, []).append(after[concept])
                ends.setdefault(concept, []).append(end[concept])
        yield row_of(f"{name}: right after", {c: pooled(found) for c, found in afters.items()})
        at_end = shown_of(bench, learned, Mode.MERGED)
        yield row_of(f"{name}: at the end", {c: pooled(found) for c, found in ends.items()}, at_end)


def capacity(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Merged, a stream of twenty individuals, by policy: right after learning and at the end, on their own pictures.

    80 steps each; beside it what share of the K/V weights is free after each.
    """
    names = [one["name"] for one in bench.catalogue][: 3 if quick else 20]
    for policy in ("overlap", "orthogonal", "prefer-free", "exclusive"):
        how = {"orthogonal": True} if policy == "orthogonal" else {"policy": Policy(policy)}
        budget = 0.045  # so that exclusive fits twenty times
        settings = {**how, "budget": budget, **({} if quick else {"steps": 80})}
        variant = Variant(mode=Mode.MERGED, settings=settings)
        learned, after, end = one_after_another(bench, names, variant, bench.training_scenes)
        yield Row(name=f"{policy}: free, %", cells=free_after(learned), spread=0.0)
        yield row_of(f"{policy}: right after", after)
        yield row_of(f"{policy}: at the end", end, shown_of(bench, learned, Mode.MERGED))


def pictures(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """ImageReady pictures beside the class word's on the same seeds: CLIP-I, whose set is nearest, CLIP-T, and the place.

    "told" is what the base draws when words say all that they can, "closed" the share of the gap between class word
    and real, "nearest" how often the nearest set is its own; "real's" are held-out scenes against captions with the
    class word, "place" is how often the place that was asked for is the nearest of all.
    """
    who = FIVE[:1] if quick else FIVE
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
            shown=beside_class_word(bench, name, dict(learned)[name]),
        )


QUESTIONS: dict[str, Callable[..., Iterator[Row]]] = {
    "controls": controls,
    "seeds": seeds,
    "levels": levels,
    "modes": modes,
    "budgets": budgets,
    "steps": steps,
    "tokens": tokens,
    "selections": selections,
    "pairs": pairs,
    "rates": rates,
    "together": together,
    "holds": holds,
    "bleeding": bleeding,
    "pulls": pulls,
    "sequences": sequences,
    "capacity": capacity,
    "pictures": pictures,
    "agreement": agreement,
}


def _example_pairs(bench: Bench, quick: bool) -> tuple[list[str], dict[Pair, list[Scene]]]:
    scenes = [s for s in bench.scenes if s.kind in ("pair", "hat")]
    shown = by_pair([s for s in scenes if set(s.concepts) <= {"dog", "hat"}] if quick else scenes)
    return sorted({name for pair in shown for name in pair.concepts}, key=FIVE.index), shown


def _pairs_that_hold(label: str, by_name: Mapping[str, Mapping[str, Removed]]) -> Row:
    """From the errors removed by pair, for each of `NAMED`."""
    both, *one = ([found.mean for found in each.values()] for each in by_name.values())
    better = np.max(one, axis=0)
    count = float(np.sum(np.array(both) > better))
    return Row(name=label, cells={"both": float(np.mean(both)), "one": float(better.mean()), "pairs": count})


def _sweep_pairs(bench: Bench, quick: bool) -> tuple[list[str], dict[Pair, list[Scene]]]:
    scenes = [s for s in bench.scenes if s.kind == "sweep-pair"]
    shown = by_pair([s for s in scenes if set(s.concepts) <= set(SWEEP[:2])] if quick else scenes)
    return [name for name in SWEEP if any(name in pair.concepts for pair in shown)], shown


def _alone_and_two(
    bench: Bench, label: str, variant: Variant, names: Sequence[str], shown: Mapping[Pair, list[Scene]]
) -> Row:
    known = dict(in_order(bench, names, variant))
    by_itself = [bench.removed(acting(known, variant.mode, [n]), variant.mode, elsewhere(bench, n)) for n in names]
    by_name = {says: mean_of(two_named(bench, known, variant.mode, shown, says).values()) for says in NAMED}
    sheet = two_shown(bench, known, variant.mode, next(iter(shown)), "both")
    return Row(name=label, cells={"alone": mean_of(by_itself), **by_name}, shown=sheet)


def _variant(selection: str = "CNS", /, **settings: float) -> Variant:
    if selection == "V* alone":
        settings = {**settings, "warmup": 1.0}
    return varied(Variant(selection=selection), **settings)


def _shuffled(names: Sequence[str], seed: int) -> list[str]:
    return [names[i] for i in torch.randperm(len(names), generator=stream("order", seed)).tolist()]


def _sweep(quick: bool) -> tuple[str, ...]:
    return SWEEP[:1] if quick else SWEEP
