"""`base`: the base model of a store, where the models are, and how much memory a base model needs.

Owns these facts and their changes; must not know terminals or how models are loaded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl import results
from cnsctl.app.counting import Count
from cnsctl.app.environment import refuse_unfit
from cnsctl.app.sources import opened, place_of, sourced
from cnsctl.app.stores import (
    READ,
    base_model,
    base_of,
    damage_inside,
    metric_models,
    notes_on_metrics,
    open_base,
    predicts,
    saved_but,
)
from cnsctl.errors import BaseModelError, StoreDamagedError, UsageError
from cnsctl.events import Event, within
from cnsctl.settings import ComputeSettings, Dtype, complete

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from cnsctl.app.sources import Source
    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.store import MetricModel, Store


def described(store: Store) -> results.BaseResult:
    """The base model of a store. Loads no model; a base model that is missing is described from the store's record."""
    from cnsctl.bases.base_folder import default_budget

    record = store.base
    place = Path(record.path) if record.path is not None else store.base_folder
    n_bytes: int | None = None
    try:
        folder = open_base(store)
        n_bytes = folder.loaded_bytes  # looks for the files of the weights
    except (BaseModelError, StoreDamagedError):
        folder = None
    budget = default_budget(kv_weights=record.n_weights, denoiser_weights=record.denoiser_weights)
    if folder is not None:
        budget = float(folder.train.get("budget", budget))
    return results.BaseResult(
        store=str(store.path),
        base=base_model(store),
        place=str(place),
        inside=record.path is None,
        found=folder is not None,
        origin=record.origin,
        bytes=n_bytes,
        sites=len(record.sites),
        prediction=None if folder is None else folder.parameterization.prediction,
        zero_snr=None if folder is None else folder.parameterization.zero_snr,
        size=None if folder is None else _size(folder),
        budget=results.Budget(neurons=round(budget * record.n_weights), share=budget),
        clip=_metric(store.clip),
        own_clip=None if folder is None else _has_own_clip(store),
        judge=_metric(store.judge),
    )


def _has_own_clip(store: Store) -> bool:
    from cnsctl.bases.part_files import has_clip

    with damage_inside(store):
        return has_clip(base_of(store))


def _size(folder: BaseFolder) -> int | None:
    try:
        return folder.size
    except BaseModelError:
        return None


def _metric(model: MetricModel | None) -> results.MetricModel | None:
    if model is None:
        return None
    return results.MetricModel(
        name=model.name,
        path=model.path,
        fingerprint=model.fingerprint,
        origin=model.origin,
        found=Path(model.path).is_dir(),
    )


def changed(
    store: Store,
    *,
    at: str | Path | None = None,
    clip: str | Path | None = None,
    judge: str | Path | None = None,
) -> Generator[Event, None, results.BaseResult]:
    """Record where the base model is now, or models that measure images: all of it, or nothing.

    Raises:
        UsageError: the store contains its base model.
        BaseModelError: another base model is there, or a model cannot be loaded.
        StoreLockedError: another process writes to the store.
    """
    base = None
    refuse_unfit()
    if at is not None:
        source = yield from _moved(store, at)
        count = Count.percent(READ)
        yield count.begin()
        facts = yield from count.shares(_moved_facts(store, source))
        base = replace(store.base, **facts, origin=source.origin)
    models = yield from metric_models(clip=clip, judge=judge)
    store.set_places(base=base, clip=models.get("clip"), judge=models.get("judge"))
    yield from saved_but(store)
    if at is not None and clip is None:
        yield from notes_on_metrics(store)
    return described(store)


def _moved(store: Store, at: str | Path) -> Generator[Event, None, Source]:
    if store.base.path is None:
        raise UsageError(f"the store contains its base model: {store.base_folder}", note="it moves with the store")
    source = yield from sourced(at)
    if source.kind != store.base.kind:
        kinds = {"file": "a single file", "folder": "a folder", "pocket": "the built-in base model"}
        raise UsageError(
            f"the base model of the store is {kinds[store.base.kind]}, not {kinds[source.kind]}: {source.path}",
            note=f"it was at {store.base.path}",
            reason="base-kind",
        )
    return source


def _moved_facts(store: Store, source: Source) -> Generator[float, None, dict[str, Any]]:
    """The absolute path of a base model and the hashes of its files, if it is the store's.

    Raises:
        BaseModelError: it is another one.
    """
    from cnsctl.bases.base_folder import open_folder
    from cnsctl.bases.facts import collecting
    from cnsctl.bases.hashing import hashing_file

    prediction = predicts(store.base.prediction)  # the owner's word: what `init` accepted is accepted after a move
    is_file = source.kind == "file"
    known = open_base_at(store, source.path) if is_file else open_folder(source.path, prediction=prediction)
    try:
        facts = yield from within(collecting(known, with_files=True), 0.0, 0.9)
    except BaseModelError as err:
        if source.kind != "file":
            raise
        raise BaseModelError(  # it does not fit the configuration of the store's own file
            f"another base model is at {source.path}", note=err.what, reason="another-base"
        ) from err
    if facts.fingerprint != store.base.fingerprint:
        raise BaseModelError(
            f"another base model is at {source.path}: {facts.fingerprint[:12]}",
            note=f"this store was created on {store.base.fingerprint[:12]}",
            reason="another-base",
        )
    files = store.base.files if is_file else facts.files  # the store contains the configuration of a single file
    checkpoint = None
    if known.single_file is not None:
        checkpoint = yield from within(hashing_file(known.single_file), 0.9, 1.0)
    return {"path": str(place_of(known)), "files": files, "checkpoint": checkpoint}


def open_base_at(store: Store, single_file: Path) -> BaseFolder:
    """A single file with the configuration that the store contains.

    Raises:
        BaseModelError: it is not a checkpoint.
    """
    from cnsctl.bases.base_folder import open_folder
    from cnsctl.bases.single_file import open_single_file

    open_single_file(single_file)
    prediction = predicts(store.base.prediction)
    return open_folder(base_of(store), single_file=single_file, prediction=prediction, name=store.base.name)


def estimated(
    store: Store | None, given: str | Path | None, compute: Mapping[str, Any] | None = None
) -> Generator[Event, None, results.EstimateResult]:
    """Estimate the memory that training and generating need, without loading a weight.

    Args:
        store: whose base model is estimated if none is given.
        given: another base model, as `init` takes it; a hub id must be in the local cache.
        compute: fields of `ComputeSettings`; only the precision matters.

    Raises:
        UsageError, BaseModelError: the base model cannot be read.
    """
    from cnsctl.bases import devices

    where: ComputeSettings = complete(ComputeSettings, {}, compute or {})
    dtype: str = where.dtype  # of any machine: an estimate needs none
    if dtype == Dtype.AUTO:
        dtype = devices.dtype_name(devices.choose(where.device, where.dtype)[1])
    if given is None and store is not None:
        with damage_inside(store):
            return (yield from _estimated(open_base(store), str(dtype)))
    source = yield from sourced(given, download=False)
    with opened(source) as folder:
        return (yield from _estimated(folder, str(dtype)))


def _estimated(folder: BaseFolder, dtype: str) -> Generator[Event, None, results.EstimateResult]:
    from cnsctl.bases.memory_estimate import estimating

    count = Count.percent("follow a step without weights")
    yield count.begin()
    return (yield from count.shares(estimating(folder, dtype=dtype)))
