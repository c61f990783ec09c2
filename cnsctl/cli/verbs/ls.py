"""`cnsctl ls`: list concepts."""

from __future__ import annotations

from cnsctl.cli import options, tables
from cnsctl.cli.output import View


def ls(store: options.Store = None, as_json: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the learned concepts.

    Learnings that were interrupted are told on stderr.

    Example:  cnsctl ls --json | jq -r '.concepts[].name'
    """
    from cnsctl.app import shelf

    with View(as_json=as_json, quiet=quiet, human=tables.listing, bare=tables.names) as view:
        view.show(shelf.listed(shelf.open_store(store)))
