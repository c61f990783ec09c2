"""`cnsctl rm`: take concepts out."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import View


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Concepts, or names of unfinished learnings.")],
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Only throw interrupted learnings away; concepts stay.")
    ] = False,
    yes: options.Yes = False,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Take concepts out of the store: all of those named, or none.

    Of a name whose learning was interrupted, what was kept for going on is thrown away too.

    In prompt and token mode no other picture changes by a bit. In merged, later concepts that stood on it are named.
    The files of what is removed, copies of its pictures among them, stay in the store's folder blobs.

    Example:  cnsctl rm dog hat -y
    """
    from cnsctl.app import shelf

    opened = shelf.open_store(store)
    shelf.removable(opened, names, only_unfinished=unfinished)
    if not yes:
        _ask(names, unfinished=unfinished)
    with View(as_json=as_json, quiet=quiet, human=tables.removed, bare=tables.gone) as view:
        view.show(shelf.removing(opened, names, only_unfinished=unfinished))


def _ask(names: list[str], *, unfinished: bool) -> None:
    from cnsctl.errors import UsageProblem

    option, what = ("--unfinished ", "give up learning") if unfinished else ("", "remove")
    if not sys.stdin.isatty():
        raise UsageProblem(
            "rm asks before it removes, and nobody is there to ask", hint=f"cnsctl rm {option}{' '.join(names)} -y"
        )
    sys.stderr.write(f"{what} {', '.join(f'<{n}>' for n in names)}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        sys.stderr.write("nothing was removed\n")
        raise typer.Exit(1)
