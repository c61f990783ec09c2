"""The families of base models, and loading a base model of any of them.

Owns the list; must not know concepts or the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.bases.pixart.family import PIXART
from cnsctl.bases.sd1.family import SD1
from cnsctl.bases.sdxl.family import SDXL

if TYPE_CHECKING:
    import torch

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.family import Family
    from cnsctl.bases.memory_estimate import Plan
    from cnsctl.bases.protocol import Base

FAMILIES: tuple[Family, ...] = (SD1, SDXL, PIXART)
"""To add a family, write its folder and add its declaration here."""


def family_of(pipeline: object) -> Family | None:
    """The family of a pipeline class, by its name in `model_index.json`; None if it is not supported."""
    return next((family for family in FAMILIES if pipeline in family.pipelines), None)


def load(
    folder: BaseFolder,
    *,
    device: torch.device,
    dtype: torch.dtype,
    hash_weights: bool = False,
    fingerprint: str | None = None,
    plan: Plan | None = None,
) -> Base:
    """Load a base model.

    Args:
        folder: its folder.
        device: where it computes.
        dtype: what its denoiser computes in.
        hash_weights: also hash everything that the fingerprint leaves out (for the proof).
        fingerprint: as the store recorded it; None to compute it from the weights.
        plan: what saves memory; None for nothing.

    Raises:
        BaseModelError: the folder cannot be loaded.
    """
    from cnsctl.bases.loaded import LoadedBase
    from cnsctl.bases.memory_estimate import KEEP_ALL
    from cnsctl.bases.parts import load_parts

    components = folder.family.components(folder, load_parts(folder.path, folder.family))
    return LoadedBase(
        folder,
        components,
        device=device,
        dtype=dtype,
        hash_weights=hash_weights,
        known=fingerprint,
        plan=plan or KEEP_ALL,
    )
