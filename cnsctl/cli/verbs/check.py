"""`cnsctl check`: find and repair damage of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import WAIT_S


def command(
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read every byte and compare its SHA-256; otherwise names and sizes")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Make again what can be derived; move what cannot be read to damaged/; delete nothing"
        ),
    ] = False,
    wait: options.Wait = WAIT_S,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check the files of the store.

    Compares the catalogue, its previous generation, the files of each concept, the ownership index and the base model in
    the store. The exit status is 6 if something is damaged and was not repaired.

    Example:  cnsctl check --read-data
    """
    from cnsctl.app import stores
    from cnsctl.app.check import check, problem

    with Output(
        as_json=as_json, quiet=quiet, human=tables.checked, bare=lambda r: [f.part for f in r.findings]
    ) as output:
        result = output.run(check(stores.open_store(store, wait_s=wait), read_data=read_data, repair=repair))
    if (found := problem(result)) is not None:
        raise found
