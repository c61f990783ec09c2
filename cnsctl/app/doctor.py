"""`doctor`: the facts that a bug report needs.

Owns which facts, and that none of them is a path unless asked for; must not know terminals.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cnsctl
from cnsctl import results
from cnsctl.app.stores import locate, open_store
from cnsctl.errors import CnsctlError, StoreNotFoundError
from cnsctl.store import free_bytes
from cnsctl.store.lock import holder_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnsctl.store import Store

LIBRARIES = (
    "torch", "diffusers", "transformers", "tokenizers", "safetensors", "accelerate", "numpy", "pillow", "tinydb", "typer",
    "huggingface-hub", "pillow-heif",
)  # fmt: skip

_MOUNTS = Path("/proc/self/mounts")


def doctor(path: Path | None = None, *, paths: bool = False) -> results.DoctorResult:
    """Versions, device, precisions, store, disk and locks.

    Args:
        path: of the store; it need not exist.
        paths: also the places of the package and the store, and the names of machines and concepts in locks.
    """
    from cnsctl.bases import devices

    place = locate(path)
    device, dtype = devices.choose()
    store, facts = _store_of(path)
    places = {"package": str(Path(cnsctl.__file__).parent), "store": str(place.absolute())}
    return results.DoctorResult(
        version=cnsctl.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=os.cpu_count() or 1,
        libraries={name: _version(name) for name in LIBRARIES},
        device=str(device),
        dtype=devices.dtype_name(dtype),
        devices=devices.names(),
        store=facts,
        disk=_disk(place),
        locks=() if store is None else tuple(_locks(store, paths=paths)),
        formats=format_numbers(),
        paths=places if paths else None,
    )


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _store_of(path: Path | None) -> tuple[Store | None, results.StoreFacts | None]:
    nothing: dict[str, Any] = dict.fromkeys(
        ("mode", "base", "base_kind", "inside", "concepts", "generation", "unfinished", "free")
    )
    try:
        store = open_store(path)
    except StoreNotFoundError:
        return None, None
    except CnsctlError as err:
        return None, results.StoreFacts(problem=err.code, **nothing)
    known: dict[str, Any] = {
        **nothing,
        "mode": str(store.mode),
        "base": store.base.family,
        "base_kind": store.base.kind,
        "inside": store.base.path is None,
    }
    try:
        found = store.snapshot()
    except CnsctlError as err:
        return store, results.StoreFacts(problem=err.code, **known)
    known |= {
        "concepts": len(found.concepts),
        "generation": found.generation,
        "unfinished": len(store.work.unfinished()),
        "free": store.free().share,
    }
    return store, results.StoreFacts(problem=None if not store.damage else "a copy is in use", **known)


def _disk(place: Path) -> results.Disk:
    there = next((p for p in (place.absolute(), *place.absolute().parents) if p.exists()), Path("/"))
    return results.Disk(
        file_system=_file_system(there), free_bytes=free_bytes(there), writable=os.access(there, os.W_OK)
    )


def _file_system(place: Path) -> str | None:
    """The kind of the disk that a path is on, as Linux names it."""
    found: tuple[int, str | None] = (-1, None)
    with suppress(OSError):
        for line in _MOUNTS.read_text(errors="replace").splitlines():
            _, mounted, kind, *_ = line.split(" ")
            root = Path(mounted.encode().decode("unicode_escape"))
            if root == place.resolve() or root in place.resolve().parents:
                found = max(found, (len(root.parts), kind))
    return found[1]


def _locks(store: Store, *, paths: bool) -> Iterator[str]:
    files = [store.path / "lock", *sorted((store.path / "work").glob("*/lock")), store.path / "work" / ".lock"]
    for file in files:
        if (holder := holder_of(file)) is not None:
            what = "the store" if file.parent == store.path else "training"
            yield f"{what}: {holder}" if paths else f"{what}: {str(holder).partition(' on ')[0]}"


def format_numbers() -> dict[str, int]:
    """The version of each format that this cnsctl writes."""
    from cnsctl.app.made import FORMAT as PNG
    from cnsctl.engine.proof import FORMAT as PROBE
    from cnsctl.engine.training_state import FORMAT as STATE
    from cnsctl.formats.bundle import FORMAT as BUNDLE
    from cnsctl.formats.delta import FORMAT as DELTA
    from cnsctl.results import FORMAT as JSON
    from cnsctl.store.backup_file import FORMAT as BACKUP
    from cnsctl.store.catalogue import FORMAT as CATALOGUE
    from cnsctl.store.index import FORMAT as INDEX
    from cnsctl.store.manifest import FORMAT as STORE

    return {
        "store": STORE, "catalogue": CATALOGUE, "index": INDEX, "delta": DELTA, "bundle": BUNDLE, "backup": BACKUP,
        "probe": PROBE, "state": STATE, "png": PNG, "json": JSON,
    }  # fmt: skip
