"""`migrate`: from an older format of the store to the newest one, and back.

Owns the result; must not know formats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl import results
from cnsctl.store import migrate as of_store

if TYPE_CHECKING:
    from cnsctl.store import Store


def migrate(store: Store, *, dry_run: bool = False, back: bool = False) -> results.MigrateResult:
    """Write the files of an older format in the newest one, and keep them as they were.

    Args:
        store: that is migrated; it must be opened again afterwards.
        dry_run: change nothing.
        back: write the kept files back, for the version of cnsctl that wrote them.

    Raises:
        UsageError: there is nothing to go back to, or concepts have changed since.
        StoreLockedError: another process writes to the store.
        StoreDamagedError, FormatTooNewError: a file cannot be read.
        DiskError: full, read-only or failing; a second call continues.
    """
    kept = None
    if back:
        found = of_store.kept_files(store) if dry_run else of_store.go_back(store)
    elif dry_run:
        found = of_store.older_files(store.path)
    else:
        found, kept = of_store.migrate(store)
    return results.MigrateResult(
        store=str(store.path),
        dry_run=dry_run,
        back=back,
        files=tuple(
            results.MigratedFile(
                file=file.name,
                before=file.newest if back else file.format,
                after=file.format if back else file.newest,
            )
            for file in found
        ),
        kept=str(kept) if found and kept is not None else None,
    )
