"""`cnsctl doctor`: what a bug report needs."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output


def command(
    paths: Annotated[
        bool, typer.Option("--paths", help="Also print paths, and the names of machines and concepts in locks")
    ] = False,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Print what a bug report needs.

    Versions, device, precision, the store, its disk and its locks, without paths. cnsctl sends nothing.

    Example:  cnsctl doctor > report.txt
    """
    from cnsctl.app.doctor import doctor

    with Output(as_json=as_json, quiet=quiet, human=tables.diagnosed, bare=tables.diagnosed) as output:
        output.result(doctor(store, paths=paths))
