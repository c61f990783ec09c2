"""`cnsctl eval`: measure concepts."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import View


def evaluate(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Learned concepts. Default: all of them.")
    ] = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Error removed alone: fast, for nothing is drawn.")
    ] = False,
    store: options.Store = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how good concepts are, and what was forgotten.

    Each is measured against its pictures, those held out (add --holdout) where there are any, beside the bare class
    word and beside its values at learning.

    Error removed: how much of the denoising error on the pictures naming the concept removes, in percent.
    CLIP-I, CLIP-T: of drawn pictures, where the base brings a CLIP. Drift: of ten prompts without a concept.

    Example:  cnsctl eval dog --json
    """
    from cnsctl.app import audit, shelf
    from cnsctl.app.session import Compute

    with View(as_json=as_json, quiet=quiet, human=tables.evaluated, bare=tables.names) as view:
        compute = Compute(device=device, dtype=dtype)
        view.show(audit.evaluate(shelf.open_store(store), names or [], compute, pictures=not no_pictures))
