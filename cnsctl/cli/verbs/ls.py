"""`cnsctl ls`: list concepts."""

from __future__ import annotations

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output


def command(
    names: options.AnyConcepts = None,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the concepts of the store.

    Training runs that run now or were interrupted are listed on stderr, with the command that continues them. A narrow
    terminal shows fewer columns; in a pipe all columns are raw numbers, separated by tabs.

    Example:  cnsctl ls --json | jq -r '.concepts[].name'
    """
    from cnsctl.app import concepts

    with Output(as_json=as_json, quiet=quiet, human=tables.listing, bare=tables.names) as output:
        result = output.run(concepts.listed_or_empty(store, names or []))
        for run in result.runs:
            output.note(tables.run(run, store))
