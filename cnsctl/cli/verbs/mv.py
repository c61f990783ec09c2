"""`cnsctl mv`: rename a concept."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output


def command(
    old: Annotated[str, typer.Argument(metavar="CONCEPT", help="Its name")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name")],
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Rename a concept; its bytes stay the same.

    Example:  cnsctl mv dog rex
    """
    from cnsctl.app import concepts, stores

    with Output(as_json=as_json, quiet=quiet, human=tables.renamed, bare=lambda r: [r.new]) as output:
        output.run(concepts.rename(stores.open_store(store), old, new))
