"""`gc`: delete the files that nothing in the store refers to.

Owns the result; must not know which files these are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl import results
from cnsctl.store.collect import collect as collected

if TYPE_CHECKING:
    from cnsctl.store import Store


def collect(store: Store, *, dry_run: bool = False) -> results.CollectResult:
    """Delete what neither the catalogue nor its previous generation nor a training state needs.

    Args:
        store: whose files are deleted.
        dry_run: delete nothing.

    Raises:
        StoreDamagedError: the catalogue or its previous generation cannot be read.
        StoreLockedError: another process writes to the store.
    """
    if dry_run:
        found = collected(store, dry_run=True)
    else:
        with store.locked("gc"):
            found = collected(store)
    return results.CollectResult(
        store=str(store.path),
        dry_run=dry_run,
        deleted=found.deleted.files,
        deleted_bytes=found.deleted.bytes,
        young=found.young.files,
        young_bytes=found.young.bytes,
        kept_for_undo=found.previous.files,
        kept_for_undo_bytes=found.previous.bytes,
    )
