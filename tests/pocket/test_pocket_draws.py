"""Chance comes from `random.random()` alone, and is the prototype's."""

from __future__ import annotations

import ast
import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pocket.world.draws import Draws

ROOT = Path(__file__).parents[2]

SEEDS = st.integers(min_value=0, max_value=2**64)


def reference(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


@given(SEEDS)
def test_floats_are_those_of_the_seed(seed):
    mine, theirs = Draws(seed), reference(seed)
    assert [mine.random() for _ in range(20)] == [theirs.random() for _ in range(20)]


@given(SEEDS, st.lists(st.booleans(), max_size=40))
def test_choices_among_three_and_later_floats_are_those_of_random_choice(seed, plan):
    """`random.choice` takes single words of the generator, so that floats straddle two pairs afterwards."""
    mine, theirs = Draws(seed), reference(seed)
    for three in plan:
        if three:
            assert mine.one_of_three((0, 1, 2)) == theirs.choice((0, 1, 2))
        else:
            assert abs(mine.random() - theirs.random()) < 1e-8


@given(SEEDS, st.floats(-50, 50), st.floats(0, 50))
def test_between_is_uniform_of_the_standard_library(seed, low, width):
    assert Draws(seed).between(low, low + width) == reference(seed).uniform(low, low + width)


def test_the_world_takes_chance_from_nowhere_else():
    for path in sorted((ROOT / "pocket/world").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert "random" not in imported or path.name == "draws.py", path
        assert "np.random" not in path.read_text(encoding="utf-8"), path


def test_chance_calls_nothing_of_a_generator_but_random():
    tree = ast.parse((ROOT / "pocket/world/draws.py").read_text(encoding="utf-8"))
    calls = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "self._source"
    }
    assert calls == {"random"}
