"""The runs of the benchmark: images, class word and settings of each, and how it should end.

Owns the list; must not know how anything is measured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
EXAMPLES, CONCEPTS = ROOT / "examples", ROOT / "benchmarks/concepts"

ANOTHER_HAND = "hand"
"""The level of concepts in a style that pocket was not trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One training run."""

    name: str
    kind: str
    """`good`, `near` (what the base model never saw, in its own style), or why it is bad: `photograph`, `word`, `rate`, `mixed`."""
    sources: Sequence[Path]
    word: str
    settings: dict[str, Any] = field(default_factory=dict)


def cases(photographs: Path | None) -> Iterator[Case]:
    """All of them, kinds interleaved, so that the first rows already show something.

    Args:
        photographs: the folder that `photographs.py` wrote; None leaves these runs out.
    """
    kinds = [_good(), _bad_words(), _bad_rates(), _mixed(), _near()]
    if photographs is not None:
        kinds.insert(1, _photographs(photographs))
    longest = max(map(len, kinds))
    yield from (kind[i] for i in range(longest) for kind in kinds if i < len(kind))


def calibration() -> Iterator[Case]:
    """Sets of images that pocket can generate, and that no run trains on: rendered by the program that made its training data."""
    used = {path for case in cases(None) for path in case.sources}
    for concept in json.loads((CONCEPTS / "concepts.json").read_text()):
        folder = CONCEPTS / concept["name"]
        if concept["level"] != ANOTHER_HAND and folder not in used:
            yield Case(name=concept["name"], kind="calibration", sources=[folder], word=concept["word"])


def _good() -> list[Case]:
    examples = {"dog": "dog", "hat": "top hat", "cat": "cat", "castle": "castle", "robot": "robot"}
    concepts = {"red-car": "car", "blue-fox": "fox", "starred-frog": "frog", "tall-cactus": "cactus", "yellow-house": "house",
                "medal-horse": "horse"}  # fmt: skip
    found = [Case(name=name, kind="good", sources=[EXAMPLES / name], word=word) for name, word in examples.items()]
    return found + [
        Case(name=name, kind="good", sources=[CONCEPTS / name], word=word) for name, word in concepts.items()
    ]


def _photographs(folder: Path) -> list[Case]:
    words = {"chelsea": "cat", "china": "castle", "rocket": "rocket", "astronaut": "robot", "flower": "flower",
             "coffee": "cup", "motorcycle": "car"}  # fmt: skip
    return [Case(name=name, kind="photograph", sources=[folder / name], word=word) for name, word in words.items()]


def _bad_words() -> list[Case]:
    wrong = {"dog": "car", "castle": "dog", "cat": "house", "hat": "fish"}
    return [
        Case(name=f"{name}-as-{word}", kind="word", sources=[EXAMPLES / name], word=word)
        for name, word in wrong.items()
    ]


def _bad_rates() -> list[Case]:
    high = {"learning_rate": 0.07, "token_learning_rate": 0.05}
    low = {"learning_rate": 0.00007, "token_learning_rate": 0.00005}
    made = (("dog", "rates-x10", high), ("castle", "rates-over-100", low), ("robot", "3-steps", {"steps": 3}),
            ("cat", "rates-x10", high), ("hat", "rates-over-100", low))  # fmt: skip
    words = {"hat": "top hat"}
    return [
        Case(
            name=f"{name}-{what}",
            kind="rate",
            sources=[EXAMPLES / name],
            word=words.get(name, name),
            settings=settings,
        )
        for name, what, settings in made
    ]


def _mixed() -> list[Case]:
    names = ("castle", "cat", "dog", "hat", "robot")
    five = [EXAMPLES / name / f"0{i + 1}.png" for i, name in enumerate(names)]
    two = [EXAMPLES / name / f"0{i}.png" for i in (1, 2, 3) for name in ("dog", "castle")][:5]
    return [
        Case(name="five-things", kind="mixed", sources=five, word="dog"),
        Case(name="dog-and-castle", kind="mixed", sources=two, word="dog"),
    ]


def _near() -> list[Case]:
    words = {"noto-dog": "dog", "teapot": "teapot", "noto-castle": "castle", "snowman": "snowman"}
    return [Case(name=name, kind="near", sources=[CONCEPTS / name], word=word) for name, word in words.items()]
