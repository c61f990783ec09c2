"""The state after the last complete step of a training run, also if the next step is interrupted.

Owns the copy of the state; must not know when or where it is written.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from cnsctl.engine.training_state import TrainState, state_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping


class Checkpoint:
    """A copy of a training state. A step may be interrupted anywhere, even in an optimizer, without changing the copy."""

    def __init__(self) -> None:
        self._state: TrainState | None = None

    def take(self, state: TrainState) -> None:
        """Copy a complete state. Until the copy is complete, the one before remains."""
        self._state = replace(state, tensors=_copied(state.tensors))

    @property
    def step(self) -> int | None:
        """Steps that the state has done; None before the first copy."""
        return None if self._state is None else self._state.step

    def to_bytes(self) -> bytes | None:
        """The state from which the same run continues, or None before the first copy."""
        return None if self._state is None else state_to_bytes(self._state)


def _copied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy what training changes, with one operation per device and dtype.

    The mask is the only part with integers. It never changes, so it is not copied.
    """
    copies = dict(tensors)
    groups = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            groups[tensor.device, tensor.dtype].append(name)
    for names in groups.values():
        flat = torch.cat([tensors[name].reshape(-1) for name in names])
        parts = torch.split(flat, [tensors[name].numel() for name in names])
        copies |= {name: part.view(tensors[name].shape) for name, part in zip(names, parts, strict=True)}
    return copies
