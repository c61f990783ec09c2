"""The questions: what is trained in which ways, and what is measured; each gives one table.

Owns the variants that are compared; must not know how tables look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.learning.bench import Bench, Removed, Scene, Variant, said, varied
from benchmarks.learning.images import PLACES, SEEDS, halves, likenesses
from benchmarks.learning.pairs import (
    NAMED,
    Pair,
    acting,
    by_pair,
    pairs_that_hold,
    two_named,
    two_prompt_only,
    two_prompt_only_shown,
    two_shown,
)
from benchmarks.learning.rows import (
    IN_A_ROW,
    Row,
    Shown,
    beside_class_word,
    elsewhere,
    free_after,
    in_order,
    mean_of,
    one_after_another,
    pooled,
    prompt_only_shown,
    row_alone,
    row_by_level,
    row_of,
    shown_of,
    shuffled,
)
from cnsctl.concept import DEFAULT_MODE, Mode
from cnsctl.engine.overlay import EMPTY, Overlay
from cnsctl.settings import Policy

FIVE = ("dog", "hat", "cat", "robot", "castle")
SWEEP = ("blue-fox", "orange-owl", "red-car", "cyan-mushroom")
RATES = (
    *((values, 5e-3) for values in (1e-3, 3e-3, 5e-3, 7e-3, 1e-2, 3e-2)),
    *((3e-3, token) for token in (1e-3, 2e-2, 5e-2)),
    (1e-2, 1e-2),
    *((values, 2e-2) for values in (5e-3, 1e-2)),
)
"""Learning rate and token learning rate, for one concept alone and two in one prompt."""
BEST_OF_ALL = 1e-3
"""The learning rate at which all K/V weights remove the most error (`controls`)."""
ALL_FASTER = {"learning_rate": 2e-3, "token_learning_rate": 2e-2}
"""All K/V weights with a higher token learning rate: the most error that they removed."""
FOR_TWO = (*((values, token) for token in (5e-3, 2e-2) for values in (5e-3, 1e-2)), (7e-3, 5e-3))
"""Learning rates that are compared with three seeds."""
PULLS = ((0.0, 0.0), (5e-2, 0.0), (0.5, 0.0), (5.0, 0.0), (0.0, 2e-3), (5e-2, 2e-4), (5e-2, 5e-4), (5e-2, 2e-3))
"""λ_prev and λ_base that are tried together."""


def controls(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """CNS, the prompt-only baseline, V* alone, a random mask of equal size, and all K/V weights."""
    who = FIVE[:2] if quick else FIVE
    described = {c: bench.prompt_only(elsewhere(bench, c)) for c in who}
    yield row_of("prompt only", described, prompt_only_shown(bench.described[who[0]]))
    for name in ("CNS", "random", "V* alone"):
        yield row_alone(bench, name, _variant(name), who)
    if not quick:
        yield row_alone(bench, "V* alone at 0.02", _variant("V* alone", token_learning_rate=2e-2), who)
    for rate in (1e-3,) if quick else (2e-4, 5e-4, 1e-3, 2e-3, 5e-3):
        yield row_alone(bench, f"all K/V at {rate:g}", _variant("all K/V", learning_rate=rate), who)


def seeds(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """The spread over training seeds, which also change the random masks.

    Also all K/V weights at their best learning rate, with the default token learning rate and a higher one.
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
    """Error removed by noise level, percent: high levels decide the form, low levels the detail."""
    who = FIVE[:2] if quick else FIVE
    scenes = [s for c in who for s in elsewhere(bench, c)]
    yield row_by_level("prompt only", [bench.prompt_only(scenes)], prompt_only_shown(bench.described[who[0]]))
    for name in ("CNS", "random", "V* alone"):
        variant = _variant(name)
        trained = [(c, bench.trained(c, variant)) for c in who]
        found = [bench.removed([one], variant.mode, elsewhere(bench, one[0])) for one in trained]
        yield row_by_level(name, found, shown_of(bench, trained[:1], variant.mode))


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
    """The number of token embeddings, and the share of the steps that trains them alone, before the score."""
    for count in (1, 2) if quick else (1, 2, 4):
        yield row_alone(
            bench, f"{count} embedding{'' if count == 1 else 's'}", _variant(token_embeddings=count), _sweep(quick)
        )
    for share in (0.0, 0.2) if quick else (0.0, 0.2, 0.5):
        yield row_alone(bench, f"warm-up {100 * share:g} %", _variant(warmup=share), _sweep(quick))


def selections(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Which neurons: those of the score, and alternatives."""
    few = ("CNS", "random", "V alone")
    every = (*few, "K alone", "general kept", "intersect", "rows", "scored at V* + class", "scored at V*")
    for name in few if quick else every:
        yield row_alone(bench, name, _variant(name), _sweep(quick))


def together(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Two concepts in one prompt, on scenes that show both: both named, either named, in each mode; and prompt only."""
    names, shown = _example_pairs(bench, quick)
    for says in NAMED:
        yield row_of(
            f"prompt only: {says}",
            two_prompt_only(bench, shown, says),
            two_prompt_only_shown(bench, next(iter(shown)), says),
        )
    for mode in Mode:
        known = dict(in_order(bench, names, Variant(mode=mode)))
        for says in NAMED:
            sheet = two_shown(bench, known, mode, next(iter(shown)), says)
            yield row_of(f"{mode}: {says} named", two_named(bench, known, mode, shown, says), sheet)


def holds(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """The number of pairs of `together` that lose more error with both named than with either, by training seed.

    Error removed, %: with both named, and with the better one alone.
    """
    names, shown = _example_pairs(bench, quick)
    yield pairs_that_hold("prompt only", {says: two_prompt_only(bench, shown, says) for says in NAMED})
    for mode in Mode:
        for seed in range(1 if quick or mode is Mode.MERGED else 3):
            variant = varied(Variant(mode=mode), seed=seed) if seed else Variant(mode=mode)
            known = dict(in_order(bench, names, variant))
            by_name = {says: two_named(bench, known, mode, shown, says) for says in NAMED}
            yield pairs_that_hold(str(mode) if mode is Mode.MERGED else f"{mode}, seed {seed}", by_name)


def pairs(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Alone and two in one prompt, on the individuals of the sweep, by learning rate, by mode, and with all K/V weights.

    Error removed, %: each by itself; then on scenes that show two, with both named and with either.
    """
    names, shown = _sweep_pairs(bench, quick)
    by_words = {says: mean_of(two_prompt_only(bench, shown, says).values()) for says in NAMED}
    alone = mean_of(bench.prompt_only(elsewhere(bench, n)) for n in names)
    first = next(iter(shown))
    yield Row(name="prompt only", cells={"alone": alone, **by_words}, shown=two_prompt_only_shown(bench, first, "both"))
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
    """The best learning rates of `pairs` and one between them, with three seeds: their differences and the spread.

    Error removed, %: as in `pairs`; each row is one training seed.
    """
    names, shown = _sweep_pairs(bench, quick)
    for values, token in FOR_TWO[:2] if quick else FOR_TWO:
        for seed in range(1 if quick else 3):
            variant = _variant(learning_rate=values, token_learning_rate=token)
            variant = varied(variant, seed=seed) if seed else variant
            yield _alone_and_two(bench, f"values {values:g}, token {token:g}, seed {seed}", variant, names, shown)


def bleeding(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Pairs side by side, each half by CLIP: similarity to its own concept and to the other, and the share that is right.

    Also for images of the class words, of full descriptions, and for the held-out scenes themselves.
    """
    shown = [s for s in bench.scenes if s.kind == "pair"]
    shown = [s for s in shown if set(s.concepts) <= {"dog", "hat"}] if quick else shown
    names = sorted({name for s in shown for name in s.concepts}, key=FIVE.index)
    seeds = SEEDS[:1] if quick else SEEDS[:2]
    ways: dict[str, tuple[Overlay, Mapping[str, str]]] = {
        "class words": (EMPTY, bench.bare),
        "prompt only": (EMPTY, bench.described),
    }
    for mode in Mode:
        trained = in_order(bench, names, Variant(mode=mode))
        ways[str(mode)] = (bench.overlay(trained, mode), {})
    for name, found in halves(bench, ways, shown, seeds=seeds).items():
        overlay, words = ways.get(name, (EMPTY, {}))
        prompts = tuple(said(scene, words) for scene in shown[:IN_A_ROW])
        yield Row(
            name=name,
            cells={"own": found.own, "other": found.other, "right": found.right},
            shown=Shown(overlay=overlay, prompts=prompts) if name in ways else None,
        )


def agreement(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Error removed on the training images, and CLIP-I of generated ones; last, the rank correlation of both."""
    names = [one["name"] for one in bench.catalogue if one["level"] in ("colours", "attributes")][: 3 if quick else 10]
    trained = [(name, bench.trained(name, Variant())) for name in names]
    places, seeds = (PLACES[:2], (0,)) if quick else (PLACES[:4], SEEDS[:2])
    found = likenesses(bench, trained, places=places, seeds=seeds)
    columns: dict[str, dict[str, float]] = {
        name: {
            "error removed": bench.removed([(name, delta)], DEFAULT_MODE, bench.training_scenes(name)).mean,
            "CLIP-I": found[name].clip_i,
            "gained": found[name].clip_i - found[name].clip_i_class,
        }
        for name, delta in trained
    }
    for name, delta in trained:
        yield Row(name=name, cells=columns[name], shown=shown_of(bench, [(name, delta)], DEFAULT_MODE))
    table = np.array([list(cells.values()) for cells in columns.values()])
    ranks = table.argsort(0).argsort(0)
    yield Row(
        name="rank correlation",
        cells=dict(zip(columns[trained[0][0]], np.atleast_2d(np.corrcoef(ranks.T))[0].tolist(), strict=True)),
    )


def pulls(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Merged mode, the individuals of the sweep in a row, by λ_prev and λ_base.

    Error removed, %: by each right after its training; at the end; then on scenes that show two, both named.
    """
    names = SWEEP[:2] if quick else SWEEP
    shown = by_pair([s for s in bench.scenes if s.kind == "sweep-pair" and set(s.concepts) <= set(names)])
    for prev, base in PULLS[:2] if quick else PULLS:
        variant = replace(_variant(lambda_prev=prev, lambda_base=base), mode=Mode.MERGED)
        trained, after, end = one_after_another(bench, names, variant, bench.scenes_of)
        both = two_named(bench, dict(trained), Mode.MERGED, shown, "both")
        columns = {"right after": after, "at the end": end, "both named": both}
        cells = {column: mean_of(found.values()) for column, found in columns.items()}
        yield Row(name=f"{prev:g}, {base:g}", cells=cells, shown=shown_of(bench, trained, Mode.MERGED))


def sequences(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Merged mode, all five in a row: error removed by each right after its training, and at the end."""
    ways = {
        "CNS": Variant(mode=Mode.MERGED),
        "CNS, no pull": Variant(mode=Mode.MERGED, settings={"lambda_prev": 0.0, "lambda_base": 0.0}),
        "random": Variant(mode=Mode.MERGED, selection="random"),
        "all K/V": Variant(mode=Mode.MERGED, selection="all K/V", settings={"learning_rate": BEST_OF_ALL}),
    }
    orders = [shuffled(FIVE[:3] if quick else FIVE, seed) for seed in range(1 if quick else 3)]
    for name, variant in ways.items():
        afters: dict[str, list[Removed]] = {}
        ends: dict[str, list[Removed]] = {}
        for names in orders:
            trained, after, end = one_after_another(bench, names, variant, bench.scenes_of)
            for concept in names:
                afters.setdefault(concept, []).append(after[concept])
                ends.setdefault(concept, []).append(end[concept])
        yield row_of(f"{name}: right after", {c: pooled(found) for c, found in afters.items()})
        at_end = shown_of(bench, trained, Mode.MERGED)
        yield row_of(f"{name}: at the end", {c: pooled(found) for c, found in ends.items()}, at_end)


def capacity(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Merged mode, twenty individuals in a row, by policy: right after training and at the end, on the training images.

    80 steps each; also the share of the K/V weights that is free after each.
    """
    names = [one["name"] for one in bench.catalogue][: 3 if quick else 20]
    for policy in ("overlap", "orthogonal", "prefer-free", "exclusive"):
        how = {"orthogonal": True} if policy == "orthogonal" else {"policy": Policy(policy)}
        budget = 0.045  # so that exclusive fits twenty times
        settings = {**how, "budget": budget, **({} if quick else {"steps": 80})}
        variant = Variant(mode=Mode.MERGED, settings=settings)
        trained, after, end = one_after_another(bench, names, variant, bench.training_scenes)
        yield Row(name=f"{policy}: free, %", cells=free_after(trained), spread=0.0)
        yield row_of(f"{policy}: right after", after)
        yield row_of(f"{policy}: at the end", end, shown_of(bench, trained, Mode.MERGED))


def images(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Generated images and those of the class word on the same seeds: CLIP-I, the nearest set, CLIP-T, and the place.

    "prompt only" is the base model with the most detailed prompt, "closed" the share of the gap between class word and
    real, "nearest" how often the nearest set is the concept's own. "CLIP-T, real" compares held-out scenes with captions
    with the class word. "place" is how often the place in the prompt is the nearest of all.
    """
    who = FIVE[:1] if quick else FIVE
    trained = [(name, bench.trained(name, Variant())) for name in who]
    places, seeds = (PLACES[:2], (0,)) if quick else (PLACES, SEEDS)
    for name, found in likenesses(bench, trained, places=places, seeds=seeds).items():
        yield Row(
            name=name,
            cells={
                "CLIP-I": found.clip_i,
                "class word": found.clip_i_class,
                "prompt only": found.clip_i_prompt_only,
                "real": found.clip_i_real,
                "closed": found.closed,
                "nearest": found.nearest,
                "CLIP-T": found.clip_t,
                "CLIP-T, class word": found.clip_t_class,
                "CLIP-T, prompt only": found.clip_t_prompt_only,
                "CLIP-T, real": found.clip_t_real,
                "place": found.place,
                "place, class word": found.place_class,
            },
            shown=beside_class_word(bench, name, dict(trained)[name]),
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
    "images": images,
    "agreement": agreement,
}


def _example_pairs(bench: Bench, quick: bool) -> tuple[list[str], dict[Pair, list[Scene]]]:
    scenes = [s for s in bench.scenes if s.kind in ("pair", "hat")]
    shown = by_pair([s for s in scenes if set(s.concepts) <= {"dog", "hat"}] if quick else scenes)
    return sorted({name for pair in shown for name in pair.concepts}, key=FIVE.index), shown


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


def _sweep(quick: bool) -> tuple[str, ...]:
    return SWEEP[:1] if quick else SWEEP
