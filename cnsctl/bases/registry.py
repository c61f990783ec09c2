"""The families of base models, and loading a base model of any of them.

Owns the list; must not know concepts or the store.
"""

from __future__ import annotations

from importlib import import_module
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from cnsctl.bases.pixart.family import PIXART
from cnsctl.bases.refusals import difference
from cnsctl.bases.sd1.family import SD1
from cnsctl.bases.sdxl.family import SDXL
from cnsctl.events import result_of, within

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

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


def named(family: str) -> Family:
    """The family that a store records."""
    return next(one for one in FAMILIES if one.name == family)


def load(folder: BaseFolder, **options: Any) -> LoadedBase:
    """The result of `loading`, with the same options."""
    return result_of(loading(folder, **options))


def loading(
    folder: BaseFolder,
    *,
    device: torch.device,
    dtype: torch.dtype,
    hash_weights: bool = False,
    fingerprint: str | None = None,
    first: bool = False,
    plan: Plan | None = None,
) -> Generator[float, None, LoadedBase]:
    """Load a base model.

    Args:
        folder: its folder.
        device: where it computes.
        dtype: what its denoiser computes in.
        hash_weights: also hash everything that the fingerprint leaves out (for the proof).
        fingerprint: as the store recorded it; None to compute it from the weights.
        first: a store is created on it: also run it once, which shows what is wrong with a folder that loads.
        plan: what saves memory; None for nothing.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: the folder cannot be loaded.
    """
    from cnsctl.bases.loaded import LoadedBase, kv_weights, part_hashes
    from cnsctl.bases.memory_estimate import KEEP_ALL
    from cnsctl.bases.parts import loading_parts
    from cnsctl.bases.trial import failing, refuse_broken

    check = fingerprint is None or hash_weights
    named, hashed = (_FINGERPRINT if fingerprint is None else 0.0), (_OTHERS if hash_weights else 0.0)
    read, named, hashed, _ = _marks(_READ + (_CHECK if check else 0.0), named, hashed, _PLACE)
    parts = yield from within(loading_parts(folder, check_values=check), 0.0, read)
    with failing(f"cannot use {folder.shown} as {folder.family.title}"):
        components = import_module(folder.family.adapter).components(folder, parts)
        if fingerprint is None:
            fingerprint = yield from within(components.fingerprint(kv_weights(components)), read, named)
        hashes = (yield from within(part_hashes(folder, components), named, hashed)) if hash_weights else None
        base = LoadedBase(
            folder,
            components,
            device=device,
            dtype=dtype,
            fingerprint=fingerprint,
            part_hashes=hashes,
            plan=plan or KEEP_ALL,
        )
    if first:
        refuse_broken(base)
    return base


_READ, _CHECK, _FINGERPRINT, _OTHERS, _PLACE = 1.0, 1.0, 0.3, 0.7, 1.0
"""How long each part of loading takes, relative to reading the weights."""


def _marks(*amounts: float) -> list[float]:
    """The share of the whole at which each amount ends."""
    return [end / sum(amounts) for end in accumulate(amounts)]
