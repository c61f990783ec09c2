"""Stores: locating, creating and opening them, and the facts about their base model.

Owns the results about a store as a whole; must not know torch or terminals.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cnsctl import results
from cnsctl.concept import DEFAULT_MODE, Mode
from cnsctl.errors import BaseModelError, InvalidSettingError, StoreNotFoundError, UsageError
from cnsctl.events import Event, Note, Phase, Warn
from cnsctl.settings import GenerateSettings, TrainSettings
from cnsctl.store import BaseRecord, Store, default_path

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

R = TypeVar("R", bound=results.Result)


def now() -> str:
    """The current time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def locate(path: Path | None) -> Path:
    """The folder of the store: the given path, else `CNSCTL_STORE`, else the platform's user-data folder."""
    return path if path is not None else default_path()


def open_store(path: Path | None) -> Store:
    """Open the store.

    Raises:
        StoreNotFoundError, StoreDamagedError, FormatTooNewError: by what is there.
    """
    return Store.open(locate(path))


def create(
    path: Path | None, *, base: Path | None = None, mode: Mode | str = DEFAULT_MODE, copy: bool = False
) -> Generator[Event, None, results.StoreResult]:
    """Create a store on pocket, which loads no model, or on another base model, which is loaded once for its facts.

    Raises:
        InvalidSettingError: the mode is unknown.
        UsageError, BaseModelError, DiskError: by the path and the base model.
    """
    if mode not in set(Mode):
        raise InvalidSettingError("mode", mode, allowed=", ".join(Mode), wrong="choice")
    is_pocket = base is None or (str(base) == "pocket" and not (base / "model_index.json").exists())
    notes: list[Note] = []
    if base is not None and not is_pocket:
        base, notes = _opened(base)
        yield Phase(name="read the base model")
    store = _created(path, None if is_pocket else base, Mode(mode), copy=copy)
    free = results.Free(neurons=store.base.n_weights, share=1.0)
    yield from notes
    yield from saved_but(store)
    return results.StoreResult(store=str(store.path), base=base_model(store), mode=str(store.mode), free=free)


def _opened(base: Path) -> tuple[Path, list[Note]]:
    """The folder of a base model, inside a hub's cache too, and what its owner should read once."""
    from cnsctl.bases.base_folder import open_folder

    folder = open_folder(base)
    return folder.path, [Note(text=text) for text in folder.notes]


def _created(path: Path | None, base: Path | None, mode: Mode, *, copy: bool) -> Store:
    from cnsctl.bases.base_folder import POCKET
    from cnsctl.bases.facts import facts, pocket_facts

    if base is None:
        known, kind, copied = pocket_facts(), "pocket", POCKET
    else:
        known, kind, copied = facts(base, with_files=copy), "folder", base
    held = base is None or copy
    record = BaseRecord(
        kind=kind,
        path=None if held else str(copied.resolve()),
        family=known.family,
        fingerprint=known.fingerprint,
        name=known.name,
        files=known.files,
        sites=known.sites,
        denoiser_weights=known.denoiser_weights,
    )
    return Store.create(locate(path), base=record, mode=mode, created=now(), base_files=copied if held else None)


def saved_but(store: Store) -> Iterator[Warn]:
    """Warnings about failures after a change was saved."""
    while store.warnings:
        yield Warn(text=f"saved, but {store.warnings.pop(0)}")


def open_or_create(path: Path | None) -> tuple[Store, bool]:
    """The store, created on pocket in the default mode if it is missing, and whether it was created."""
    try:
        return open_store(path), False
    except StoreNotFoundError:
        try:
            return _created(path, None, DEFAULT_MODE, copy=False), True
        except UsageError as err:
            try:
                return open_store(path), False  # another process was faster
            except StoreNotFoundError:
                raise err from None


def with_store(path: Path | None, work: Callable[[Store], Generator[Event, None, R]]) -> Generator[Event, None, R]:
    """Open the store, or create it on pocket with a note, then do the work."""
    store, created = open_or_create(path)
    if created:
        yield Note(text=f"created the store {store.path} on pocket, the built-in base model", reason="created-store")
    yield from saved_but(store)
    return (yield from work(store))


def base_of(store: Store) -> Path:
    """The folder of a store's base model.

    Raises:
        BaseModelError: it is missing.
    """
    path = store.base_folder if store.base.path is None else Path(store.base.path)
    if not path.is_dir():
        raise BaseModelError(
            f"base model not found: {path}",
            note="the store refers to this folder",
            hint="put the folder back, or mount its disk",
        )
    return path


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
    from cnsctl.bases.base_folder import POCKET, open_folder

    folder = open_folder(POCKET)
    train = {"resolution": folder.size, **folder.train}
    return {TrainSettings: train, GenerateSettings: folder.generate}.get(kind, {})
