"""`cnsctl gc`: delete files that no concept needs."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import WAIT_S


def command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Delete nothing; print what would be deleted")
    ] = False,
    wait: options.Wait = WAIT_S,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Delete files that no concept needs.

    Deletes the deltas and images of removed concepts, if they are older than an hour. Keeps what cnsctl undo needs, and
    what training runs need. It works on a full disk.

    Example:  cnsctl gc -n
    """
    from cnsctl.app import stores
    from cnsctl.app.collect import collect

    with Output(as_json=as_json, quiet=quiet, human=tables.collected, bare=lambda r: [str(r.deleted_bytes)]) as output:
        output.result(collect(stores.open_store(store, wait_s=wait), dry_run=dry_run))
