"""Repairing a store: what is derivable is made again, what cannot be read is moved to `damaged/`, nothing is deleted.

Owns what is done about each problem; must not know how problems are found.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cnsctl.errors import CnsctlError, FormatTooNewError, StoreDamagedError
from cnsctl.store import blobs, catalogue, layout
from cnsctl.store import manifest as manifest_file
from cnsctl.store.check import Kind
from cnsctl.store.files import disk_problem, make_folder, read_bounded, sync_folder, write_atomic
from cnsctl.store.lock import refuse_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cnsctl.store.check import Problem
    from cnsctl.store.store import Store

_MAX_BYTES = 256 << 20


def repair(store: Store, found: Iterable[Problem]) -> dict[str, str]:
    """Repair what can be repaired, under the store's lock.

    Returns:
        What was done, by part.

    Raises:
        StoreLockedError: another process writes.
        DiskError: full, read-only or failing; a second call continues.
    """
    found = list(found)
    done: dict[str, str] = {}
    with store.locked("check --repair") as is_locked:
        for problem in sorted(found, key=lambda p: p.part != catalogue.FILE):
            refuse_lost(is_locked, store.path)
            if (words := _repaired(store, problem)) is not None:
                done[problem.part] = words
    if any(p.part in (layout.INDEX, catalogue.FILE) or p.part.startswith(f"{layout.BLOBS}/") for p in found):
        with suppress(CnsctlError), store.transaction("check --repair") as tx:
            tx.recount()
            done |= (
                {layout.INDEX: "counted again from the deltas"} if any(p.part == layout.INDEX for p in found) else {}
            )
    return done


def _repaired(store: Store, problem: Problem) -> str | None:
    path = store.path / problem.part
    pairs: dict[str, Callable[[], bytes]] = {
        manifest_file.FILE: lambda: manifest_file.intact(store.path / manifest_file.COPY),
        manifest_file.COPY: lambda: manifest_file.intact(store.path / manifest_file.FILE),
        catalogue.FILE: lambda: catalogue.load_previous(store.path).content,
        catalogue.PREVIOUS: lambda: catalogue.load(store.path).content,
    }
    if problem.part in pairs and problem.kind is Kind.DERIVED:
        if not _is_damaged(store.path, problem.part):
            return "intact at a second reading"
        try:
            content = pairs[problem.part]()
        except (FileNotFoundError, CnsctlError):
            return None
        _keep_copy(store.path, path)
        write_atomic(path, content)
        return {
            catalogue.FILE: "went back to the previous generation",
            catalogue.PREVIOUS: "replaced by the present generation",
        }.get(problem.part, "written again from its copy")
    folder = problem.part.partition("/")[0]
    is_file = "/" in problem.part and folder in (layout.BLOBS, layout.INDEX, layout.WORK) and path.exists()
    if is_file and (folder == layout.WORK or not _is_intact(path)):
        _move(path, store.path / layout.DAMAGED)
        return f"moved to {layout.DAMAGED}/"
    return None


def _is_damaged(store: Path, part: str) -> bool:
    """Is a file damaged still, now that no other process can write? An error of the disk alone may pass.

    Raises:
        DiskError: it cannot be read.
    """
    readers: dict[str, Callable[[], object]] = {
        catalogue.FILE: lambda: catalogue.load(store),
        catalogue.PREVIOUS: lambda: catalogue.load_previous(store),
    }
    try:
        readers.get(part, lambda: manifest_file.intact(store / part))()
    except (FileNotFoundError, StoreDamagedError):
        return True
    except FormatTooNewError:  # a newer cnsctl reads it
        pass
    return False


def _is_intact(path: Path) -> bool:
    """An intact blob is not moved: if a concept cannot use it, the fault is elsewhere."""
    try:
        blobs.get(path.parent, path.name)
    except CnsctlError:
        return False
    return True


def _keep_copy(store: Path, path: Path) -> None:
    """Keep the bytes of a damaged file that is about to be replaced, if they can be read."""
    with suppress(FileNotFoundError, CnsctlError):
        content = read_bounded(path, _MAX_BYTES)
        make_folder(store / layout.DAMAGED)
        write_atomic(_unused(store / layout.DAMAGED / path.name), content)


def _move(path: Path, folder: Path) -> None:
    make_folder(folder)
    try:
        os.rename(path, _unused(folder / path.name))  # noqa: PTH104  as in `files`
        sync_folder(folder)
        sync_folder(path.parent)
    except OSError as err:
        raise disk_problem(err, "move", path) from err


def _unused(path: Path) -> Path:
    """A name that is free: an earlier repair may have used the first."""
    number = 1
    found = path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found
