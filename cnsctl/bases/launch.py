"""The place of this process among those that `accelerate launch` started.

Owns the call that connects them; must not know what they do.
"""

from __future__ import annotations


def connected(*, cpu: bool) -> tuple[int, int]:
    """Connect the processes of a launch; returns the index of this one, and their number.

    Args:
        cpu: compute on the CPU, even if there is a GPU.
    """
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=cpu or not torch.cuda.is_available())
    return state.process_index, state.num_processes
