"""`cnsctl demo`: the whole job on the built-in base model and images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import ComputeSettings, TrainSettings


@options.with_settings(settings=(TrainSettings, ["steps"]), compute=ComputeSettings)
def command(
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", readable=False, help="Folder of the store, images and sheet"),
    ] = Path("demo"),
    settings: dict[str, Any],
    compute: dict[str, Any],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train two bundled concepts and show them.

    Writes a store, images and a contact sheet. Run it again to continue where it stopped.

    Example:  cnsctl demo -o demo
    """
    from cnsctl.app.demo import demo

    with Output(
        as_json=as_json,
        quiet=quiet,
        human=tables.demo,
        bare=lambda r: [r.sheet],
        lines=True,
    ) as shown:
        shown.run(demo(output, settings, compute))
