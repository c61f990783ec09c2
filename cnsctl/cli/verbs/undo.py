"""`cnsctl undo`: undo the last change of the store."""

from __future__ import annotations

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import WAIT_S


def command(
    wait: options.Wait = WAIT_S,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Undo the last change of the store.

    Restores the concepts that the last add, mv or rm removed, replaced or renamed. A second undo makes the change again.
    After rm --purge there is nothing to undo.

    Example:  cnsctl undo --store ./sd15
    """
    from cnsctl.app import stores
    from cnsctl.app.undo import undo

    with Output(
        as_json=as_json, quiet=quiet, human=tables.undone, bare=lambda r: [*r.restored, *r.renamed.values()]
    ) as output:
        output.run(undo(stores.open_store(store, wait_s=wait)))
