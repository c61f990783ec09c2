"""`cnsctl verify`: prove that nothing was forgotten."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import View


def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Learned concepts. Default: all of them.")
    ] = None,
    store: options.Store = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Prove, without drawing, that nothing was forgotten.

    Each concept must give the keys and values that it gave when it was learned; milliseconds each. The exit status is 7
    when one does not. In merged, where learning moves others, those that moved are measured, and one that lost more than
    5 points of error removed counts as forgotten.

    Example:  cnsctl verify && echo "nothing forgotten"
    """
    from cnsctl.app import audit, shelf
    from cnsctl.app.session import Compute

    with View(
        as_json=as_json,
        quiet=quiet,
        human=tables.verified,
        bare=lambda data: [r["name"] for r in data["concepts"] if r["forgotten"]],
    ) as view:
        view.show(audit.verify(shelf.open_store(store), names or [], Compute(device=device, dtype=dtype)))
