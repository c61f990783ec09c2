"""Which caption is nearest to a picture, slot by slot, and the shares that the card prints.

Owns the counting; pure on vectors and must not know models.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocket.judge.prompts import GROUPS, questions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from pocket.judge.prompts import Prompt

MARKS = (
    "thing",
    "place",
    "colour",
    "second colour",
    "count",
    "both things of a pair",
    "sides",
    "hat",
    "pattern",
    "accessory",
    "style",
    "everything",
)
"""Rows of the table, in its order. `hat` is: the right hat, and on the head rather than beside or absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of how many."""

    right: int
    asked: int

    @property
    def value(self) -> float:
        return self.right / self.asked


def all_texts(prompts: Sequence[Prompt]) -> list[str]:
    """Every caption that some question about these prompts compares, each once."""
    options = (text for prompt in prompts for question in questions(prompt.telling) for text in question.options)
    return list(dict.fromkeys(options))


def marks(prompts: Sequence[Prompt], seen: torch.Tensor, read: Mapping[str, torch.Tensor]) -> dict[str, Share]:
    """Shares of right answers, per row of MARKS and then per group of prompts ("all right: hats").

    Args:
        prompts: one for each picture.
        seen: the pictures as unit vectors (n, d).
        read: unit vector (d,) per caption, for all of `all_texts`.
    """
    answers: dict[str, list[bool]] = defaultdict(list)
    for prompt, vector in zip(prompts, seen, strict=True):
        right = _answers(prompt, vector, read)
        for slot, value in right.items():
            if slot != "second thing":
                answers[slot].append(value)
        if "second thing" in right:
            answers["both things of a pair"].append(right["thing"] and right["second thing"])
        answers["everything"].append(all(right.values()))
        answers[f"everything in {prompt.group}"].append(all(right.values()))
    order = [*MARKS, *(f"everything in {group}" for group in GROUPS)]
    return {row: Share(right=sum(answers[row]), asked=len(answers[row])) for row in order if answers[row]}


def _answers(prompt: Prompt, vector: torch.Tensor, read: Mapping[str, torch.Tensor]) -> dict[str, bool]:
    """Per slot: is the right caption at least as near as every other one?"""
    result = {}
    for question in questions(prompt.telling):
        near = [float(vector @ read[text]) for text in question.options]
        result[question.slot] = near[0] == max(near)
    return result
