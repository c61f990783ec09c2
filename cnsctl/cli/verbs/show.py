"""`cnsctl show`: everything about one concept."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output


def command(
    name: Annotated[str, typer.Argument(metavar="CONCEPT", help="Its name")],
    overlaps: Annotated[
        bool, typer.Option("--overlaps", help="Count the neurons shared with each other concept; reads all of them")
    ] = False,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show everything about one concept.

    Example:  cnsctl show dog
    """
    from cnsctl.app import concepts, stores

    with Output(as_json=as_json, quiet=quiet, human=tables.shown, bare=lambda r: [r.concept.name]) as output:
        output.result(concepts.show(stores.open_store(store), name, overlaps=overlaps))
