"""`cnsctl mv`: rename a concept."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import WAIT_S


def command(
    old: Annotated[str, options.name_argument("CONCEPT", "Its name")],
    new: Annotated[str, options.name_argument("NEW", "Its new name")],
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Rename an interrupted training run; concepts stay")
    ] = False,
    wait: options.Wait = WAIT_S,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Rename a concept; its bytes stay the same.

    The same cnsctl add with the new name continues a training run that was renamed with --unfinished.

    Example:  cnsctl mv dog rex
    """
    from cnsctl.app import concepts, stores

    with Output(as_json=as_json, quiet=quiet, human=tables.renamed, bare=lambda r: [r.new]) as output:
        opened = stores.open_store(store, wait_s=wait)
        output.run(concepts.rename(opened, old, new, only_unfinished=unfinished))
