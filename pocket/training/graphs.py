"""A training step recorded once and replayed: a card then launches its kernels itself.

Owns the recording; must not know what is learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pocket.training.learner import Learner

WARM_UP = 3
"""Steps before the recording, at a rate of 0: libraries choose their kernels, the optimizer makes its state."""


class Replayed:
    """Steps of one shape on CUDA, as a graph of all their kernels.

    Launched one by one from Python, the kernels of a step with 512 samples keep an H100 waiting half of the time.

    Args:
        losses: from the inputs to the loss to follow and errors (b,) to report.
        learner: takes the steps; nothing of it may be replaced afterwards.
        inputs: tensors in the shapes and layouts of every later call.
    """

    def __init__(
        self,
        losses: Callable[..., tuple[torch.Tensor, torch.Tensor]],
        learner: Learner,
        inputs: Sequence[torch.Tensor],
    ) -> None:
        self._inputs = [x.clone() for x in inputs]
        learner.set_rate(0.0)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                loss, _ = losses(*self._inputs)
                learner.descend(loss)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=aside):
            loss, self._errors = losses(*self._inputs)
            learner.descend(loss)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """One step; the errors (b,) are overwritten by the next."""
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return self._errors
