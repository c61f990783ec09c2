"""One concept to train: the input of a training run.

Owns this value; must not know how it is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from cnsctl.concept import Mode, Prompt
    from cnsctl.engine import neurons
    from cnsctl.engine.overlay import Overlay
    from cnsctl.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One concept to train."""

    name: str
    class_word: str
    latents: torch.Tensor
    """(n, c, h, w) fp32 on the CPU."""
    texts: Sequence[Sequence[Prompt]]
    """Per image: the prompts that may describe it."""
    settings: TrainSettings
    mode: Mode
    prior: Overlay
    """In merged mode: all earlier concepts. In the other modes: none."""
    general: Mapping[str, torch.Tensor]
    """General neurons, per site (rows, columns) bool."""
    owned: neurons.Owned
    """Neurons that other concepts own, for policies and reports."""
