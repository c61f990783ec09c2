"""`undo`: back to the concepts before the last change.

Owns the result; must not know how generations are saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.app.stores import saved_but
from cnsctl.errors import UsageError
from cnsctl.store.catalogue import load_previous

if TYPE_CHECKING:
    from collections.abc import Generator

    from cnsctl import results
    from cnsctl.events import Event
    from cnsctl.store import Store


def undo(store: Store) -> Generator[Event, None, results.UndoResult]:
    """Take back the last change; a second call does it again.

    Raises:
        UsageError: there is nothing to undo.
        StoreDamagedError: a file that a concept needs has been deleted, or is damaged.
        StoreLockedError, NameTakenError: a name that comes back is in training.
    """
    with store.transaction("undo") as tx:
        try:
            previous = load_previous(store.path)
        except FileNotFoundError as err:
            raise _nothing(store) from err
        if previous.tables["concepts"] == dict(store.catalogue().tables["concepts"]):
            raise _nothing(store)
        done = tx.undo(previous)
    yield from saved_but(store)
    return done


def _nothing(store: Store) -> UsageError:
    return UsageError(
        f"nothing to undo: {store.path}",
        note="the store is new, or its last change deleted the files of concepts",
        reason="no-undo",
    )
