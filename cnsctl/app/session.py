"""A store with its base model loaded, for training, generating and measuring.

Owns the step from records to concepts on a device; must not know terminals.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cnsctl.app.counting import Count
from cnsctl.app.environment import refuse_unfit
from cnsctl.app.forecast import LOAD
from cnsctl.app.processes import is_main
from cnsctl.app.stores import base_of, damage_inside, damage_of, open_base
from cnsctl.concept import Mode
from cnsctl.errors import BaseModelError, StoreDamagedError
from cnsctl.events import Event, Note, Warn, within
from cnsctl.settings import ComputeSettings, Memory, complete

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.clip import ClipTowers
    from cnsctl.bases.memory_choice import Work
    from cnsctl.bases.metric_models import ImageFeatures, StockClip
    from cnsctl.bases.protocol import Base
    from cnsctl.engine.concepts import Concept
    from cnsctl.engine.overlay import Overlay
    from cnsctl.engine.recent import Recent
    from cnsctl.store import ConceptRecord, MetricModel, Snapshot, Store

Rows = TypeVar("Rows", bound="Sequence[Any] | NDArray[Any]")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Session:
    """A loaded base model and its store."""

    store: Store
    base: Base
    device: torch.device
    dtype: str
    memory: Memory = Memory.AUTO
    """What is saved; `auto` is nothing."""
    notes: tuple[str, ...] = ()
    """What the user should read about this choice."""
    changed_files: tuple[str, ...] = ()
    """Files of a base model outside the store that differ from those that the store was created on."""

    def overlay(self, names: Iterable[str], *, decoded: Recent[Concept] | None = None) -> Overlay:
        """The deltas that may act: of the named concepts, or in merged mode of all, in training order.

        `decoded` contains concepts by the SHA-256 of their deltas: they are not read again.

        Raises:
            ConceptNotFoundError: one is missing; another process may have removed it.
            StoreDamagedError: one cannot be read.
        """
        names = list(names)
        found = self.store.snapshot()
        try:
            return self._overlay(self._acting(found, names), decoded=decoded)
        except StoreDamagedError:
            now = self.store.snapshot()
            if now is found:
                raise
            return self._overlay(self._acting(now, names), decoded=decoded)  # a concept was removed or replaced

    def _acting(self, found: Snapshot, names: Iterable[str]) -> list[ConceptRecord]:
        named = {name: found.concept(name) for name in names}
        return [r for r in found.concepts if self.store.mode is Mode.MERGED or r["name"] in named]

    def prior(self, name: str) -> Overlay:
        """The deltas on top of which a concept of this name is trained: in merged mode all others, else none.

        Raises:
            StoreDamagedError: in merged mode, one of them cannot be read.
        """
        from cnsctl.engine.overlay import EMPTY

        if self.store.mode is not Mode.MERGED:
            return EMPTY
        return self._overlay(r for r in self.store.concepts() if r["name"] != name)

    def _overlay(self, records: Iterable[ConceptRecord], *, decoded: Recent[Concept] | None = None) -> Overlay:
        from cnsctl.engine.concepts import to_concept
        from cnsctl.engine.overlay import Overlay
        from cnsctl.engine.recent import Recent

        kept: Recent[Concept] = Recent(1) if decoded is None else decoded

        def concept(record: ConceptRecord) -> Concept:
            key = record["delta"]
            return kept.get(key, lambda: to_concept(self.base, self.store.delta(record), key=key))

        return Overlay(mode=self.store.mode, concepts={r["name"]: concept(r) for r in records})

    def clip(self) -> ClipTowers | StockClip | None:
        """The CLIP of the store; else that in the folder of the base model, if there is one."""
        from cnsctl.bases import metric_models
        from cnsctl.bases.clip import towers

        if (own := self.store.clip) is not None:
            path = _metric_folder(own)
            return metric_models.clip(path, name=own.name, fingerprint=own.fingerprint, device=self.device)
        with damage_inside(self.store):
            return towers(base_of(self.store), name=self.base.name, device=self.device)

    def judge(self) -> ImageFeatures | None:
        """The second backbone of the store, if it has one."""
        from cnsctl.bases import metric_models

        if (own := self.store.judge) is None:
            return None
        path = _metric_folder(own)
        return metric_models.image_tower(path, name=own.name, fingerprint=own.fingerprint, device=self.device)

    def encoding(self, images: Iterable[NDArray[np.uint8]]) -> Generator[None, None, list[torch.Tensor]]:
        """Encode images (height, width, 3) one by one; yields after each.

        Returns:
            Latents (c, h, w) fp32 on the CPU, each of its own shape.
        """
        latents = []
        for pixels in images:
            latents.append(self.base.encode_images(pixels[None])[0])
            yield
        return latents

    def references(self, record: ConceptRecord, which: Iterable[int] | None = None) -> list[NDArray[np.uint8]]:
        """The concept's stored images, held-out ones last, or some of them by number: (height, width, 3) uint8 each."""
        from cnsctl.data.png import png_pixels

        files = record["references"]
        chosen = files if which is None else [files[i] for i in which]
        return [png_pixels(self.store.blob(sha)) for sha in chosen]


def _metric_folder(model: MetricModel) -> Path:
    if not (path := Path(model.path)).is_dir():
        raise BaseModelError(
            f"model for measuring not found: {path}",
            note=f"the store refers to {model.name} there",
            reason="metric-model",
        )
    return path


def judged(n_images: int, holdout: int, rows: Iterable[int]) -> list[int]:
    """Numbers of a concept's images that it is measured on: these rows of the held-out ones, or else of all."""
    return [(n_images - holdout if holdout else 0) + row for row in rows]


def start(
    store: Store,
    compute: Mapping[str, Any],
    *,
    hash_weights: bool = False,
    work: Work = "add",
    batch_size: int | None = None,
    began: Memory | None = None,
) -> Generator[float, None, Session]:
    """Load the store's base model, and compare it with the facts recorded in the store.

    Args:
        store: whose base model is loaded.
        compute: fields of `ComputeSettings` that the user gave.
        hash_weights: hash everything again, which `verify` and `add` need.
        work: what it is loaded for.
        batch_size: images per training step; by default the base model's.
        began: what a training run that is resumed saved; `auto` chooses it again.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: the base model is missing, or is another one.
        StoreDamagedError: a file of the base model inside the store has changed.
    """
    refuse_unfit()
    where: ComputeSettings = complete(ComputeSettings, {}, compute)
    with damage_inside(store):
        return (
            yield from _loading(store, where, hash_weights=hash_weights, work=work, batch_size=batch_size, began=began)
        )


def _loading(
    store: Store,
    where: ComputeSettings,
    *,
    hash_weights: bool,
    work: Work,
    batch_size: int | None,
    began: Memory | None,
) -> Generator[float, None, Session]:
    from cnsctl.bases import devices, memory_choice, registry
    from cnsctl.bases.memory_estimate import PLANS

    device, dtype = devices.choose(where.device, where.dtype)
    folder = open_base(store)
    seen, key = _seen(store, folder), _key(folder)
    is_known = not hash_weights and store.cached(key) == seen
    changed: tuple[str, ...] = ()
    checked = 0.0 if is_known else 0.2
    if not is_known:
        changed = yield from within(_finding_changed(store, folder), 0.0, checked)
    known = store.base.fingerprint if is_known else None
    memory, chosen = memory_choice.choose(
        folder,
        where.memory,
        device=device,
        dtype=devices.dtype_name(dtype),
        work=work,
        batch_size=int(folder.train["batch_size"]) if batch_size is None else batch_size,
        cache=store,
        began=began,
    )
    loading = registry.loading(
        folder, device=device, dtype=dtype, hash_weights=hash_weights, fingerprint=known, plan=PLANS[memory]
    )
    base = yield from within(loading, checked, 1.0)
    _refuse_another(store, folder, base)
    if (
        not is_known and not changed and is_main() and seen == _seen(store, folder)
    ):  # no file was changed while it was read
        store.cache(key, seen)
    notes = () if chosen is None else (chosen,)
    return Session(
        store=store,
        base=base,
        device=device,
        dtype=devices.dtype_name(dtype),
        memory=memory,
        notes=notes,
        changed_files=changed,
    )


def _finding_changed(store: Store, folder: BaseFolder) -> Generator[float, None, tuple[str, ...]]:
    """Compare all files of the base model with the hashes in the store. Outside the store, its owner may change them.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: one is missing.
        StoreDamagedError: one inside the store is missing or has changed.
    """
    from cnsctl.bases import hashing

    has_configuration = store.base.kind == "file"  # the store contains that of a single file
    file, known = folder.single_file, store.base.checkpoint
    is_hashed = file is not None and known is not None  # then nearly all bytes are in it
    changed: list[str] = []
    if store.base.path is None or has_configuration:
        yield from within(hashing.checking_files(folder.path, store.base.files), 0.0, 0.1 if is_hashed else 1.0)
    else:
        changed = yield from hashing.finding_changed(folder.path, store.base.files)
        changed += sorted(set(folder.files()) - set(store.base.files))
    if file is not None and known is not None:
        found = yield from within(hashing.hashing_file(file), 0.1, 1.0)
        changed += [file.name] if found != known else []
    return tuple(changed)


def _refuse_another(store: Store, folder: BaseFolder, base: Base) -> None:
    if base.fingerprint != store.base.fingerprint:
        raise BaseModelError(
            f"another base model is at {folder.shown}: {base.fingerprint[:12]}",
            note=f"this store was created on {store.base.fingerprint[:12]}",
            reason="another-base",
        )
    if base.denoiser_weights != store.base.denoiser_weights:
        raise BaseModelError(
            f"another base model is at {folder.shown}: {base.denoiser_weights} weights in its denoiser",
            note=f"this store was created on {store.base.denoiser_weights}",
            reason="another-base",
        )


def started(
    store: Store,
    compute: Mapping[str, Any],
    session: Session | None,
    *,
    hash_weights: bool = False,
    work: Work = "gen",
    batch_size: int | None = None,
    began: Memory | None = None,
) -> Generator[Event, None, Session]:
    """The given session, which was started with `hash_weights`, or else a new one."""
    if session is not None:
        return session
    complete(ComputeSettings, {}, compute)  # what is wrong is refused at once
    yield from damage_of(store)
    count = Count.percent(LOAD)
    yield count.begin()
    found = yield from count.shares(
        start(store, compute, hash_weights=hash_weights, work=work, batch_size=batch_size, began=began)
    )
    if found.changed_files:
        yield Warn(
            text=f"files of the base model have changed since the store was created: {', '.join(found.changed_files)}; "
            "images differ from earlier ones, with and without concepts"
        )
    yield from (Note(text=text) for text in found.notes)
    return found


def free_memory(device: torch.device) -> None:
    """Free the memory of base models that are not referenced any more."""
    import gc

    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def is_checked(store: Store, folder: BaseFolder) -> bool:
    """Was this base model compared with the store's record, and no file of it written to since then?"""
    return store.cached(_key(folder)) == _seen(store, folder)


def _key(folder: BaseFolder) -> str:
    """Where the store caches the stamps of a base model."""
    return f"base-{hashlib.sha256(str(folder.shown.resolve()).encode()).hexdigest()[:24]}"


def _seen(store: Store, folder: BaseFolder) -> bytes:
    """Facts that change whenever the hashes of a base model change: hashing gigabytes takes seconds.

    Files with the same stamps as at the last successful check are hashed again only by `verify` and `add`.
    """
    from cnsctl.bases import hashing, libraries

    names = {*store.base.files, *folder.files()}
    if folder.single_file is not None:
        names.add(str(folder.single_file))  # an absolute path stays itself inside another folder
    facts = {
        "fingerprint": store.base.fingerprint,
        "files": dict(store.base.files),
        "checkpoint": store.base.checkpoint,
        "stamps": hashing.stamps(folder.path, names),
        "versions": libraries.versions(),
    }
    return json.dumps(facts, sort_keys=True).encode()
