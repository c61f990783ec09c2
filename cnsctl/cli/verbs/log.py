"""`cnsctl log`: the last changes of the store."""

from __future__ import annotations

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output


def command(store: options.Store = None, as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the last changes of the store.

    Time, command, concept, what was done and how long it took, oldest first. The store keeps the last 100.

    Example:  cnsctl log --json | jq '.runs[-1]'
    """
    from cnsctl.app import stores
    from cnsctl.app.log import log

    with Output(
        as_json=as_json, quiet=quiet, human=tables.logged, bare=lambda r: [run.name for run in r.runs]
    ) as output:
        output.result(log(stores.open_store(store)))
