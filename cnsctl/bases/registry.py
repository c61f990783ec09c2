"""From a folder to a loaded base, whatever its family.

Owns which adapter loads which family; must not know concepts or the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.bases.sd1.adapter import Sd1Base

if TYPE_CHECKING:
    import torch

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.protocol import Base

ADAPTERS = {"sd1": Sd1Base}
"""Family → what loads it."""


def load(
    folder: BaseFolder,
    *,
    device: torch.device,
    dtype: torch.dtype,
    hash_weights: bool = False,
    fingerprint: str | None = None,
) -> Base:
    """Load a base.

    Args:
        folder: where it is.
        device: where it computes.
        dtype: what its denoiser computes in.
        hash_weights: also hash everything that the fingerprint leaves out (for the proof).
        fingerprint: what it is known to be; None to compute it from the weights.
    """
    load_family = ADAPTERS[folder.family]
    return load_family(folder, device=device, dtype=dtype, hash_weights=hash_weights, known=fingerprint)
