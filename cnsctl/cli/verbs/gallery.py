"""`cnsctl gallery`: every concept on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", readable=False, help="The page, HTML")
    ] = Path("gallery.html"),
    *,
    force: options.Force = False,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write all concepts as one page.

    One file that needs no network: the images of each concept, those generated after its training, and its facts.

    Example:  cnsctl gallery -o concepts.html
    """
    from cnsctl.app import report_page, stores

    opened = stores.open_store(store)
    with Output(as_json=as_json, quiet=quiet, human=tables.gallery, bare=lambda r: [r.page]) as view:
        view.run(report_page.gallery(opened, output, force=force))
