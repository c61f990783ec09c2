"""`cnsctl init`: create a store."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.concept import DEFAULT_MODE, Mode
from cnsctl.settings import Prediction


def command(
    store: options.Store = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="DIR|FILE|HUB_ID",
            show_default=False,
            help="Base model: a diffusers folder, a .safetensors checkpoint, OWNER/NAME[@REVISION] on the Hugging Face"
            " hub, or pocket.  [default: pocket]",
        ),
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the base model into the store. Otherwise do not move it")
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
    prediction: Annotated[
        str | None,
        typer.Option(
            "--prediction",
            metavar="|".join(Prediction),
            show_default=False,
            help="What the denoiser predicts.  [default: as its configuration or its file says]",
        ),
    ] = None,
    clip: options.Clip = None,
    judge: options.Judge = None,
    yes: options.YesDownload = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Create a store on a base model.

    A hub id is downloaded into the cache of the hub: safetensors weights and configuration, at one commit.

    Example:  cnsctl init --store ./sd15 --base ./model.safetensors
    """
    from cnsctl.app import stores
    from cnsctl.cli.downloads import agree

    stores.refuse_taken(store)
    agree(base, metrics=(clip, judge), yes=yes, quiet=as_json or quiet)
    with Output(as_json=as_json, quiet=quiet, human=tables.created, bare=lambda r: [r.store]) as output:
        output.run(stores.create(store, base=base, mode=mode, copy=copy, prediction=prediction, clip=clip, judge=judge))
