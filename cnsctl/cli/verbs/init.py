"""`cnsctl init`: create a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.concept import DEFAULT_MODE, Mode


def command(
    store: options.Store = None,
    base: Annotated[
        Path | None,
        typer.Option(
            "--base",
            metavar="DIR",
            readable=False,
            show_default=False,
            help="Base model: a local diffusers folder of Stable Diffusion 1.x or 2.x, or pocket.  [default: pocket]",
        ),
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the base model into the store. Otherwise do not move its folder")
    ] = False,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            metavar="|".join(Mode),
            show_default=False,
            help="token, prompt: apply the concepts named in the prompt; merged: apply all. Fixed for this store."
            f"  [default: {DEFAULT_MODE}]",
        ),
    ] = DEFAULT_MODE.value,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Create a store on a base model.

    Example:  cnsctl init --store ./sd15 --base ./stable-diffusion-v1-5
    """
    from cnsctl.app import stores

    with Output(as_json=as_json, quiet=quiet, human=tables.created, bare=lambda r: [r.store]) as output:
        output.run(stores.create(store, base=base, mode=mode, copy=copy))
