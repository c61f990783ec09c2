"""The one stream of chance in the world: numbered, repeatable, the same on every Python.

Owns how a choice is taken from `random.random()`; must not know what is chosen.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Draws:
    """Choices from one seed, built on `random.random()` alone: its sequence is what Python promises to keep.

    A float of `random()` is made of two words of the generator: the first gives its upper 27 bits, the second its
    lower 26. `one_of_three` takes the upper two bits of a single word, so that it may leave the stream between the
    two; later floats then straddle two pairs. The straddling floats lack their 27th bit (it is taken as 0), which
    moves them by less than 1e-8.
    """

    __slots__ = ("_half", "_source")

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)  # noqa: S311 — pictures, not secrets
        self._half: int | None = None
        """Upper 26 bits of a second word that nobody has read yet."""

    def random(self) -> float:
        """A number in 0 ≤ x < 1."""
        if self._half is None:
            return self._source.random()
        upper = self._half << 1
        word, self._half = self._words()
        return ((upper << 26) + (word >> 1)) / 2**53

    def between(self, low: float, high: float) -> float:
        """A number in low ≤ x < high."""
        return low + (high - low) * self.random()

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options, each as likely as the others."""
        return options[int(self.random() * len(options))]

    def one_of_three(self, options: tuple[T, T, T]) -> T:
        """One of three options by two bits at a time: the fourth value is thrown back."""
        while (which := self._two_bits()) == len(options):
            pass
        return options[which]

    def chance(self, share: float) -> bool:
        """True in that share of all cases."""
        return self.random() < share

    def _two_bits(self) -> int:
        if self._half is None:
            word, self._half = self._words()
            return word >> 25
        half, self._half = self._half, None
        return half >> 24

    def _words(self) -> tuple[int, int]:
        """The upper 27 and 26 bits of the generator's next two words."""
        pair = int(self._source.random() * 2**53)
        return pair >> 26, pair & (2**26 - 1)
