"""A cache of a fixed number of values.

Owns what is dropped first; must not know what is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by key. If there are more than `keep`, the least recently used is dropped."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self._values: dict[Hashable, V] = {}

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key; `make` computes it if it is missing."""
        value = self._values.pop(key) if key in self._values else make()
        self._values[key] = value
        while len(self._values) > self.keep:
            del self._values[next(iter(self._values))]
        return value
