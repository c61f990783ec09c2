"""From a folder to a loaded base, whatever its family.

Owns which adapter loads which family; must not know concepts or the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.bases.sd1 import Sd1Base

if TYPE_CHECKING:
    import torch

    from cnsctl.bases.folders import BaseFolder
    from cnsctl.bases.protocol import Base

ADAPTERS = {"sd1": Sd1Base}
"""Family → what loads it."""


def load(folder: BaseFolder, *, device: torch.device, dtype: torch.dtype, hash_weights: bool = False) -> Base:
    """Load a base. `hash_weights` also hashes everything that the fingerprint leaves out (for the proof)."""
    return ADAPTERS[folder.family](folder, device=device, dtype=dtype, hash_weights=hash_weights)
