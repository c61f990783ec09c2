"""The last few things made, so that they need not be made again: bounded by their number.

Owns what is dropped first; must not know what is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by key. When there are more than `keep`, the one that was used the longest time ago is dropped."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self._values: dict[Hashable, V] = {}

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made if it is not there."""
        value = self._values.pop(key) if key in self._values else make()
        self._values[key] = value
        while len(self._values) > self.keep:
            del self._values[next(iter(self._values))]
        return value
