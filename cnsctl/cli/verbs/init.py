"""`cnsctl init`: make a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import View
from cnsctl.specs import DEFAULT_MODE


def init(
    store: options.Store = None,
    base: Annotated[
        Path | None,
        typer.Option(
            "--base",
            metavar="DIR",
            readable=False,
            help="A local diffusers folder: Stable Diffusion 1.x or 2.x. Default: pocket, built in.",
        ),
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the base into the store; otherwise it must stay where it is.")
    ] = False,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            metavar="token|prompt|merged",
            help="How concepts act, for good. In merged all act on every prompt, else those that it names.",
        ),
    ] = DEFAULT_MODE.value,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a store for concepts on a base model.

    Example:  cnsctl init --store ./sd15 --base ./stable-diffusion-v1-5
    """
    from cnsctl.app import shelf
    from cnsctl.errors import UsageProblem
    from cnsctl.specs import Mode

    if mode not in set(Mode):
        raise UsageProblem(f"no mode is called {mode!r}", hint=f"use one of: {', '.join(Mode)}")
    with View(as_json=as_json, quiet=quiet, human=tables.made, bare=lambda data: [data["store"]]) as view:
        view.show(shelf.making(store, base=base, mode=Mode(mode), copy=copy))
