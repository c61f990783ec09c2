"""The families of base models, and loading a base model of any of them.

Owns the list; must not know concepts or the store.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnsctl.bases.pixart.family import PIXART
from cnsctl.bases.refusals import difference
from cnsctl.bases.sd1.family import SD1
from cnsctl.bases.sdxl.family import SDXL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.family import Family
    from cnsctl.bases.loaded import LoadedBase
    from cnsctl.bases.memory_estimate import Plan

FAMILIES: tuple[Family, ...] = (SD1, SDXL, PIXART)
"""To add a family, write its folder and add its declaration here."""


def family_of(index: Mapping[str, Any]) -> Family | None:
    """The family of a pipeline, by the parts in its `model_index.json`; None if it is not supported.

    Pipelines of other classes with the same parts, such as those that change an image, are of the same family.
    """
    return next((family for family in FAMILIES if not difference(index, family.parts)), None)


def load(
    folder: BaseFolder,
    *,
    device: torch.device,
    dtype: torch.dtype,
    hash_weights: bool = False,
    fingerprint: str | None = None,
    first: bool = False,
    plan: Plan | None = None,
) -> LoadedBase:
    """Load a base model.

    Args:
        folder: its folder.
        device: where it computes.
        dtype: what its denoiser computes in.
        hash_weights: also hash everything that the fingerprint leaves out (for the proof).
        fingerprint: as the store recorded it; None to compute it from the weights.
        first: a store is created on it: also run it once, which shows what is wrong with a folder that loads.
        plan: what saves memory; None for nothing.

    Raises:
        BaseModelError: the folder cannot be loaded.
    """
    from cnsctl.bases.loaded import LoadedBase
    from cnsctl.bases.memory_estimate import KEEP_ALL
    from cnsctl.bases.parts import load_parts
    from cnsctl.bases.trial import failing, refuse_broken

    parts = load_parts(folder, check_values=fingerprint is None or hash_weights)
    with failing(f"cannot use {folder.shown} as {folder.family.title}"):
        base = LoadedBase(
            folder,
            import_module(folder.family.adapter).components(folder, parts),
            device=device,
            dtype=dtype,
            hash_weights=hash_weights,
            known=fingerprint,
            plan=plan or KEEP_ALL,
        )
    if first:
        refuse_broken(base)
    return base
