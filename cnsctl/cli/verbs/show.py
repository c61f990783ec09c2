"""`cnsctl show`: all about one concept."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import View


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A learned concept.")],
    overlaps: Annotated[
        bool, typer.Option("--overlaps", help="Count the neurons it shares with each other concept (reads all deltas).")
    ] = False,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show all that is known of one concept.

    Example:  cnsctl show dog
    """
    from cnsctl.app import shelf

    with View(as_json=as_json, quiet=quiet, human=tables.concept, bare=tables.concept_name) as view:
        view.show([shelf.show(shelf.open_store(store), name, overlaps=overlaps)])
