"""`cnsctl restore`: create a store from a backup."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output


def command(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", readable=False, help="A file that cnsctl backup has written; - for stdin"),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Create nothing; read and check the file")] = False,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Create a store from a backup.

    The store must not exist yet. It appears when it is complete and every byte of it was read again. A base model that is
    not in the backup must be where it was; cnsctl base --at records another place.

    Example:  cnsctl restore store.tar --store ./restored
    """
    from cnsctl.app.restore import restore
    from cnsctl.errors import UsageError

    if file == Path("-") and sys.stdin.isatty():
        raise UsageError("cannot read a backup from the terminal", hint="add < FILE, or give a FILE")

    with Output(as_json=as_json, quiet=quiet, human=tables.restored, bare=lambda r: r.concepts) as output:
        output.run(restore(file, store, dry_run=dry_run, stdin=sys.stdin.buffer))
