"""How often each weight of a site is among the highest of its row, over many prompts.

On the CPU this is the longest part of scoring: 22 thousand million products at SDXL's size. There, numpy finds the lowest
of the highest values of a row in about a sixth of torch's CPU time (one core with AVX-512).

Owns this count; must not know what it is used for.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BLOCK = 1 << 16
"""Products that one thread computes at a time: with their copy, 512 KB, which fits a core's cache."""


def times_on_top(W: torch.Tensor, norms: Sequence[torch.Tensor], top: int) -> torch.Tensor:
    """For each weight, the number of prompts for which |W[i, j]| · ‖X[:, j]‖₂ is among the `top` highest of its row.

    Equal values count alike, so more than `top` weights of a row can be among them.

    Args:
        W: (rows, columns).
        norms: of each prompt, (columns,) fp32.
        top: 1 to columns.

    Returns:
        (rows, columns) int16, on the device of W.
    """
    if W.device.type != "cpu":
        return _on_device(W, norms, top)
    magnitudes, columns = W.abs().float().numpy(), [norm.numpy() for norm in norms]
    hits = np.zeros(magnitudes.shape, np.int16)
    rows = max(1, BLOCK // magnitudes.shape[1])
    blocks = [slice(at, at + rows) for at in range(0, len(magnitudes), rows)]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # numpy holds no lock while it computes
        for _ in threads.map(lambda at: _count(hits[at], magnitudes[at], columns, top), blocks):
            pass
    return torch.from_numpy(hits)


def _count(hits: NDArray[np.int16], magnitudes: NDArray[Any], norms: Sequence[NDArray[Any]], top: int) -> None:
    """Add the hits of a block of rows, in place."""
    S, parted = np.empty_like(magnitudes), np.empty_like(magnitudes)
    lowest = magnitudes.shape[1] - top
    for norm in norms:
        np.multiply(magnitudes, norm, out=S)
        parted[:] = S
        parted.partition(lowest, axis=1)
        hits += parted[:, lowest, None] <= S


def _on_device(W: torch.Tensor, norms: Sequence[torch.Tensor], top: int) -> torch.Tensor:
    hits = torch.zeros(W.shape, dtype=torch.int16, device=W.device)
    for norm in norms:
        S = W.abs() * norm[None, :]
        hits += S.topk(top, dim=1, sorted=False).values.amin(1, keepdim=True) <= S
    return hits
