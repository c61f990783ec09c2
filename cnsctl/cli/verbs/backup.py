"""`cnsctl backup`: write the store to one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output, refuse_bytes


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="The file to write, such as store.tar; - for stdout")
    ],
    force: options.Force = False,
    with_base: Annotated[
        bool,
        typer.Option("--with-base", help="Also the base model, if it is outside the store. Otherwise its place alone"),
    ] = False,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the store to one file.

    The file is a tar archive of one committed state; other commands can change the store meanwhile. Every byte is compared
    with its SHA-256. It does not contain removed concepts or interrupted training runs. cnsctl restore reads it.

    Example:  cnsctl backup store.tar
    """
    from cnsctl.app import stores
    from cnsctl.app.backup import backup

    to_stdout = file == Path("-")
    refuse_bytes(as_json=as_json, to_stdout=to_stdout, instead="a FILE")
    human, bare = (tables.nothing, tables.nothing) if to_stdout else (tables.backed_up, lambda r: [r.file])
    with Output(as_json=as_json, quiet=quiet, human=human, bare=bare) as output:
        stdout = sys.stdout.buffer if to_stdout else None
        output.run(backup(stores.open_store(store), file, force=force, with_base=with_base, stdout=stdout))
