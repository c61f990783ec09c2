"""One concept to train: the input of a training run.

Owns this value; must not know how it is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.bases.protocol import Slot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from cnsctl.concept import Frame, Mode, Prompt
    from cnsctl.engine import neurons
    from cnsctl.engine.overlay import Overlay
    from cnsctl.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One concept to train."""

    name: str
    class_word: str
    latents: Sequence[torch.Tensor]
    """Per image: (c, h, w) fp32 on the CPU. Images of one shape are a bucket."""
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
    frames: Sequence[Frame] = ()
    """Per image: which part of the original it shows. Empty: each is whole and has its original size."""
    masks: Sequence[torch.Tensor | None] = ()
    """Per image: how much each latent pixel counts in the loss, (h, w) fp32 on the CPU, 0 to 1; None for all.

    Empty: none has a mask."""

    @property
    def slot(self) -> Slot:
        """What represents the concept in its texts."""
        return Slot(name=self.name, class_word=self.class_word, n_vectors=self.settings.token_embeddings)
