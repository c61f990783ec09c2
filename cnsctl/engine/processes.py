"""Several processes that work together: who does what, and what they add up.

Owns the calls into torch.distributed; must not know what is trained or generated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """This process among those that work together."""

    index: int
    """The first, 0, is the main process: it alone writes the store and prints."""
    count: int

    @property
    def is_main(self) -> bool:
        return self.index == 0

    def share(self, n: int) -> range:
        """Which of n items are this process's: parts in order, whose sizes differ by at most one."""
        size, more = divmod(n, self.count)
        start = self.index * size + min(self.index, more)
        return range(start, start + size + (self.index < more))

    def added_up(self, tensors: Sequence[torch.Tensor], figure: float) -> float:
        """Replace each tensor by its sum over the processes, in one message; returns the sum of a figure too."""
        if self.count == 1:
            return figure
        first = tensors[0]
        flat = torch.cat([*(t.reshape(-1) for t in tensors), torch.tensor([figure], device=first.device).to(first)])
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split_with_sizes([*(t.numel() for t in tensors), 1])[:-1], strict=True):
            tensor.copy_(part.view(tensor.shape))
        return float(flat[-1])

    def from_main(self, value: T) -> T:
        """The main process's value, in every process."""
        if self.count == 1:
            return value
        held = [value]
        torch.distributed.broadcast_object_list(held)
        return held[0]

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, in order, in every process."""
        if self.count == 1:
            return [value]
        found: list[T | None] = [None] * self.count
        torch.distributed.all_gather_object(found, value)
        return [one for one in found if one is not None]


ALONE = Processes(index=0, count=1)
"""One process, as usual."""
