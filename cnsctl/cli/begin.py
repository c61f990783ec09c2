"""The store of a verb that makes one when there is none, with a word about it.

Owns that word; must not know what is done with the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.results import Event, Note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cnsctl.store import Store


def begin(path: Path | None, work: Callable[[Store], Iterator[Event]]) -> Iterator[Event]:
    """Open or make the store, then do the work."""
    from cnsctl.app.shelf import open_or_create, saved_but

    store, made = open_or_create(path)
    if made:
        yield Note(text=f"made a store at {store.path}, on pocket, the small base that is built in")
        yield Note(text="for Stable Diffusion: cnsctl init --store DIR --base FOLDER")
    yield from saved_but(store)
    yield from work(store)
