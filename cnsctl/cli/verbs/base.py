"""`cnsctl base`: the base model of a store."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import WAIT_S, ComputeSettings


@options.with_settings(compute=(ComputeSettings, ("dtype",)))
def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[DIR|FILE|HUB_ID]", help="With --estimate: another base model", show_default=False),
    ] = None,
    *,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="DIR|FILE|HUB_ID",
            show_default=False,
            help="Where the base model is now; another base model is refused",
        ),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Estimate the memory of add and gen, without loading a weight")
    ] = False,
    clip: options.Clip = None,
    judge: options.Judge = None,
    compute: dict[str, Any],
    yes: options.YesDownload = False,
    wait: options.Wait = WAIT_S,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the store's base model and its place.

    --at records where it is after a move. --clip and --judge record models that measure images in eval. --estimate follows a training step and an image without
    weights, which takes seconds.

    Example:  cnsctl base --at /mnt/models/sd15
    """
    from cnsctl.app import base, stores
    from cnsctl.cli.downloads import agree
    from cnsctl.errors import UsageError

    changes = at is not None or clip is not None or judge is not None
    if (model is not None and not estimate) or (estimate and changes) or (compute and not estimate):
        raise UsageError("these options do not belong together", reason="base-options")
    if estimate:
        with Output(as_json=as_json, quiet=quiet, human=tables.estimated, bare=tables.estimated_bytes) as estimates:
            estimates.run(base.estimated(stores.open_store(store) if model is None else None, model, compute))
        return
    with Output(as_json=as_json, quiet=quiet, human=tables.base, bare=lambda r: [r.place]) as output:
        opened = stores.open_store(store, wait_s=wait)
        if not changes:
            output.result(base.described(opened))
            return
        agree(at, metrics=(clip, judge), yes=yes, quiet=as_json or quiet)
        output.run(base.changed(opened, at=at, clip=clip, judge=judge))
