"""The largest batch that fits into the memory of the device, found by trying.

Owns the search; must not know what a batch is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def halved(attempt: Callable[[int], None], most: int) -> int:
    """The first of most, most / 2, … that does not run out of memory. 1 is not tried: its error is the caller's.

    Args:
        attempt: does the work for a batch of this size.
        most: to begin with.
    """
    from accelerate.utils import find_executable_batch_size

    size = most

    def less() -> int:
        nonlocal size
        size //= 2
        return size

    def run(batch_size: int) -> int:
        if batch_size > 1:
            attempt(batch_size)
        return batch_size

    found: int = find_executable_batch_size(run, starting_batch_size=most, reduce_batch_size_fn=less)()
    return found
