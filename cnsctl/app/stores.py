"""Stores: locating, creating and opening them, and the facts about their base model.

Owns the results about a store as a whole; must not know torch or terminals.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cnsctl import results
from cnsctl.app.counting import Count
from cnsctl.app.environment import refuse_unfit
from cnsctl.app.sources import Source, not_there, opened, place_of, sourced
from cnsctl.concept import DEFAULT_MODE, Mode
from cnsctl.errors import (
    BaseModelError,
    InvalidSettingError,
    StoreDamagedError,
    StoreNotFoundError,
    UsageError,
)
from cnsctl.events import Event, Note, Warn, result_of, within
from cnsctl.home_folder import from_home
from cnsctl.settings import WAIT_S, GenerateSettings, Prediction, TrainSettings
from cnsctl.store import BaseRecord, MetricModel, Store, default_path
from cnsctl.store.layout import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from cnsctl.bases.base_folder import BaseFolder

R = TypeVar("R", bound="results.Result")

READ = "read the base model"
"""The phase in which a base model is loaded for its facts."""


def now() -> str:
    """The current time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def locate(path: Path | None) -> Path:
    """The folder of the store: the given path, else `CNSCTL_STORE`, else the platform's user-data folder."""
    return from_home(path) if path is not None else default_path()


def is_default(path: Path | None) -> bool:
    """Whether the store is the one of the user-data folder: neither given nor named by `CNSCTL_STORE`."""
    return path is None and not os.environ.get("CNSCTL_STORE")


def nothing_yet() -> results.ListResult:
    """The default store before it exists: what the first `add` would create it on, without a concept."""
    from cnsctl.bases.facts import pocket_facts

    facts, folder = pocket_facts(), pocket()
    weights = sum(rows * columns for rows, columns in facts.sites.values())
    base = results.BaseModel(
        name=folder.name,
        family=folder.family.name,
        fingerprint=facts.fingerprint,
        weights_kv=weights,
        weights_denoiser=facts.denoiser_weights,
    )
    return results.ListResult(
        store=str(locate(None)),
        base=base,
        mode=DEFAULT_MODE.value,
        free=results.Free(neurons=weights, share=1.0),
        concepts=(),
        unfinished=(),
        runs=(),
    )


def open_store(path: Path | None, *, wait_s: float | None = None) -> Store:
    """Open the store.

    Args:
        path: its folder.
        wait_s: how long a change waits for another process that writes; None is the default.

    Raises:
        StoreNotFoundError, StoreDamagedError, FormatTooNewError: by what is there.
    """
    return Store.open(locate(path), wait_s=WAIT_S if wait_s is None else wait_s)


def refuse_taken(path: Path | None) -> None:
    """Check that a store can be created there.

    Raises:
        UsageError: something is there already.
    """
    Store.refuse_taken(locate(path))


def create(
    path: Path | None,
    *,
    base: str | Path | None = None,
    mode: Mode | str = DEFAULT_MODE,
    copy: bool = False,
    prediction: Prediction | str | None = None,
    clip: str | Path | None = None,
    judge: str | Path | None = None,
) -> Generator[Event, None, results.StoreResult]:
    """Create a store on pocket, which loads no model, or on another base model, which is loaded once for its facts.

    Raises:
        InvalidSettingError: the mode or the prediction is unknown.
        UsageError, BaseModelError, DiskError: by the path and the models.
    """
    if mode not in set(Mode):
        raise InvalidSettingError("mode", mode, allowed=", ".join(Mode), wrong="choice")
    refuse_taken(path)  # before a download
    if base is not None:
        refuse_unfit()
    source = yield from sourced(base)
    models = yield from metric_models(clip=clip, judge=judge)
    notes: list[str] = []
    work = _creating(path, source, Mode(mode), copy=copy, prediction=predicts(prediction), notes=notes, **models)
    if source.kind == "pocket":
        store = result_of(work)
    else:
        count = Count.percent(READ)
        yield count.begin()
        store = yield from count.shares(work)
    free = results.Free(neurons=store.base.n_weights, share=1.0)
    yield from (Note(text=text) for text in notes)
    yield from saved_but(store)
    yield from notes_on_metrics(store)
    return results.StoreResult(store=str(store.path), base=base_model(store), mode=str(store.mode), free=free)


def predicts(given: Prediction | str | None) -> Prediction | None:
    """What the denoiser predicts, as a user names it.

    Raises:
        InvalidSettingError: the word is unknown.
    """
    if given is not None and given not in set(Prediction):
        raise InvalidSettingError("prediction", given, allowed=", ".join(Prediction), wrong="choice")
    return None if given is None else Prediction(given)


def _creating(
    path: Path | None,
    source: Source,
    mode: Mode,
    *,
    copy: bool,
    prediction: Prediction | None = None,
    clip: MetricModel | None = None,
    judge: MetricModel | None = None,
    notes: list[str] | None = None,
) -> Generator[float, None, Store]:
    """Create a store; `notes` gets what the owner of the base model should read once. Yields the share that is done."""
    from cnsctl.bases.facts import collecting, pocket_facts
    from cnsctl.bases.hashing import hashing_file

    inside = copy or source.kind == "pocket"
    with opened(source, prediction=prediction, copy=copy) as folder:
        has_files = copy or source.kind == "file"  # the store always contains the configuration of a single file
        beside = (CHECKPOINT,) if copy and source.kind == "file" else ()
        file = None if inside else folder.single_file
        if source.kind == "pocket":
            known = pocket_facts()
        else:
            work = collecting(folder, with_files=True, beside=beside, notes=notes)
            known = yield from within(work, 0.0, 0.9 if copy or file is not None else 1.0)  # then files, once more
        checkpoint = None if file is None else (yield from within(hashing_file(file), 0.9, 1.0))
        if notes is not None:
            notes += folder.notes
        record = BaseRecord(
            kind=source.kind,
            path=None if inside else str(place_of(folder)),
            family=known.family,
            fingerprint=known.fingerprint,
            name=known.name,
            files=known.files,
            sites=known.sites,
            denoiser_weights=known.denoiser_weights,
            prediction=None if prediction is None else prediction.value,
            origin=source.origin,
            checkpoint=checkpoint,
        )
        return Store.create(
            locate(path),
            base=record,
            mode=mode,
            created=now(),
            base_files=folder.path if inside or has_files else None,
            clip=clip,
            judge=judge,
        )


def metric_models(
    *, clip: str | Path | None, judge: str | Path | None
) -> Generator[Event, None, dict[str, MetricModel]]:
    """The records of the models that measure images, by field of the store; each is loaded once for its fingerprint.

    Raises:
        BaseModelError: one cannot be loaded, or is not of its kind.
    """
    found = {}
    for field, given in (("clip", clip), ("judge", judge)):
        if given is None:
            continue
        source = yield from sourced(given, pipeline=False)
        count = Count.percent(f"read the {'CLIP' if field == 'clip' else 'second backbone'}")
        yield count.begin()
        found[field] = yield from count.shares(_reading_metric_model(source, field))
    return found


def _reading_metric_model(source: Source, field: str) -> Generator[float, None, MetricModel]:
    """Load a model that measures images once, for its fingerprint. Yields the share that is done."""
    import torch

    from cnsctl.bases.metric_models import ImageTower, StockClip

    if not source.path.is_dir():
        raise BaseModelError(f"model not found: {source.path}", hint="give a folder of transformers, or a hub id")
    folder = source.path.resolve()
    name = folder.name if source.origin is None else source.origin.partition("@")[0]
    kind = StockClip if field == "clip" else ImageTower
    model = kind(folder, name=name, device=torch.device("cpu"))
    yield 0.5
    fingerprint = yield from within(model.fingerprinting(), 0.5, 1.0)
    return MetricModel(name=name, path=str(folder), fingerprint=fingerprint, origin=source.origin)


def notes_on_metrics(store: Store) -> Iterator[Note]:
    """Say so if CLIP-I and CLIP-T stay empty."""
    from cnsctl.bases.part_files import has_clip

    with damage_inside(store):
        missing = store.clip is None and not has_clip(base_of(store))
    if missing:
        yield Note(
            text="CLIP-I and CLIP-T stay empty: the text encoder of this base model has no image half in its folder",
            reason="no-clip",
        )


def saved_but(store: Store) -> Iterator[Warn]:
    """Warnings about failures after a change was saved."""
    while store.warnings:
        yield Warn(text=f"saved, but {store.warnings.pop(0)}")


def damage_of(store: Store) -> Iterator[Warn]:
    """A warning for each part of the store that was damaged when it was opened, although it can be read."""
    while store.damage:
        yield Warn(text=f"{store.damage.pop(0)}; cnsctl check --repair restores it")


def open_or_create(
    path: Path | None, *, wait_s: float | None = None, before: Callable[[BaseFolder], object] | None = None
) -> tuple[Store, bool]:
    """The store, created on pocket in the default mode if it is missing, and whether it was created.

    Args:
        path: its folder.
        wait_s: as in `open_store`.
        before: called with the base model of a new store before that is created: it refuses what cannot be done.
    """
    try:
        return open_store(path, wait_s=wait_s), False
    except StoreNotFoundError:
        if before is not None:
            before(pocket())
        try:
            return result_of(_creating(path, _pocket(), DEFAULT_MODE, copy=False)), True
        except UsageError as err:
            try:
                return open_store(path, wait_s=wait_s), False  # another process was faster
            except StoreNotFoundError:
                raise err from None


def with_store(
    path: Path | None,
    work: Callable[[Store], Generator[Event, None, R]],
    *,
    wait_s: float | None = None,
    before: Callable[[BaseFolder], object] | None = None,
) -> Generator[Event, None, R]:
    """Open the store, or create it on pocket with a note, then do the work; `before` as in `open_or_create`."""
    store, created = open_or_create(path, wait_s=wait_s, before=before)
    if created:
        yield Note(text=f"created the store {store.path} on pocket, the built-in base model", reason="created-store")
    yield from saved_but(store)
    yield from damage_of(store)
    return (yield from work(store))


def pocket() -> BaseFolder:
    """The built-in base model, without loading a weight."""
    from cnsctl.bases.base_folder import POCKET, open_folder

    return open_folder(POCKET)


def base_of(store: Store) -> Path:
    """The folder with the configuration of a store's base model, and with its weights unless they are a single file.

    Raises:
        BaseModelError: it is missing.
        StoreDamagedError: it is missing in the store.
    """
    path = store.base_folder if store.base.path is None or store.base.kind == "file" else Path(store.base.path)
    if not path.is_dir():
        if path == store.base_folder:
            raise StoreDamagedError(f"the store's copy of the base model is missing: {path}", reason="base-changed")
        raise not_there(path)
    return path


def open_base(store: Store) -> BaseFolder:
    """A store's base model, without loading a weight.

    Raises:
        BaseModelError: it is missing, or damaged.
        StoreDamagedError: it is the store's copy that is damaged.
    """
    with damage_inside(store):
        folder = _opened_base(store)
        if folder.family.name != store.base.family:
            raise BaseModelError(
                f"another base model is at {folder.shown}: family {folder.family.name}",
                note=f"this store was created on a base model of the family {store.base.family}",
                reason="another-base",
            )
        return folder


@contextmanager
def damage_inside(store: Store) -> Iterator[None]:
    """Inside the store, a base model that cannot be used is damage."""
    try:
        yield
    except BaseModelError as err:
        if store.base.path is not None:
            raise
        raise StoreDamagedError(
            f"the store's copy of the base model is damaged: {err.what}", note=err.note, reason="base-changed"
        ) from err


def _opened_base(store: Store) -> BaseFolder:
    from cnsctl.bases.base_folder import open_folder

    single_file = None
    if store.base.kind == "file":
        single_file = store.base_folder / CHECKPOINT if store.base.path is None else Path(store.base.path)
        if not single_file.is_file():
            raise not_there(single_file)
    name = store.base.name if single_file is not None else None
    return open_folder(base_of(store), single_file=single_file, prediction=predicts(store.base.prediction), name=name)


def _pocket() -> Source:
    from cnsctl.bases.base_folder import POCKET

    return Source(kind="pocket", path=POCKET)


def base_model(store: Store) -> results.BaseModel:
    """The facts about a store's base model, as results contain them."""
    base = store.base
    return results.BaseModel(
        name=base.name,
        family=base.family,
        fingerprint=base.fingerprint,
        weights_kv=base.n_weights,
        weights_denoiser=base.denoiser_weights,
    )


def pocket_defaults(kind: type) -> Mapping[str, Any]:
    """Pocket's own defaults of a class of settings, for the help; no model is loaded."""
    folder = pocket()
    train = {"resolution": folder.size, **folder.train}
    return {TrainSettings: train, GenerateSettings: folder.generate}.get(kind, {})
