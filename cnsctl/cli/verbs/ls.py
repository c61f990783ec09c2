"""`cnsctl ls`: list concepts."""

from __future__ import annotations

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output


def command(store: options.Store = None, as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the concepts of the store.

    Interrupted training runs are listed on stderr.

    Example:  cnsctl ls --json | jq -r '.concepts[].name'
    """
    from cnsctl.app import concepts, stores

    with Output(as_json=as_json, quiet=quiet, human=tables.listing, bare=tables.names) as output:
        result = output.run(concepts.listed(stores.open_store(store)))
        for name in result.unfinished:
            output.note(
                f"training of <{name}> is running or was interrupted: the same cnsctl add continues it, "
                f"cnsctl rm --unfinished {name} deletes it"
            )
