"""`log`: the last changes of a store.

Owns the result; must not know terminals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl import results

if TYPE_CHECKING:
    from cnsctl.store import Store


def log(store: Store) -> results.LogResult:
    """The last changes, oldest first. A change of several concepts is one entry for each."""
    runs = tuple(
        results.LoggedRun(
            when=run["when"], verb=run["verb"], name=run["name"], outcome=run["outcome"], seconds=run["seconds"]
        )
        for run in store.runs()
    )
    return results.LogResult(store=str(store.path), runs=runs)
