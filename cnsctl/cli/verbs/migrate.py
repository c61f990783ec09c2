"""`cnsctl migrate`: bring a store to the newest format."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import WAIT_S


def command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Change nothing; print what would be changed")
    ] = False,
    back: Annotated[
        bool, typer.Option("--back", help="Go back to the older format, if no concept has changed since")
    ] = False,
    wait: options.Wait = WAIT_S,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring the store to the newest format.

    A store of an older format can be read, but not changed. Its files are kept in before-migration/, so that an older
    cnsctl can use the store again after --back. Deltas and images stay the same.

    Example:  cnsctl migrate -n
    """
    from cnsctl.app import stores
    from cnsctl.app.migrate import migrate

    with Output(
        as_json=as_json, quiet=quiet, human=tables.migrated, bare=lambda r: [f.file for f in r.files]
    ) as output:
        output.result(migrate(stores.open_store(store, wait_s=wait), dry_run=dry_run, back=back))
