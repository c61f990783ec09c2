"""`cnsctl mv`: rename a concept."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import options
from cnsctl.cli.output import View


def mv(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A learned concept.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Rename a concept; not one byte of it changes.

    Example:  cnsctl mv dog rex
    """
    from cnsctl.app import shelf

    with View(
        as_json=as_json,
        quiet=quiet,
        human=lambda data: [f"<{data['renamed']['from']}> is <{data['renamed']['to']}> now"],
        bare=lambda data: [data["renamed"]["to"]],
    ) as view:
        view.show(shelf.renaming(shelf.open_store(store), old, new))
