"""`cnsctl rm`: remove concepts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.cli.streams import agreed
from cnsctl.settings import WAIT_S

if TYPE_CHECKING:
    from cnsctl.store import Store as OpenedStore


def command(
    names: Annotated[
        list[str] | None,
        options.name_argument("CONCEPT...", "Concepts, or names of interrupted training runs"),
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Remove every concept")] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Delete only the training state; concepts stay")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also delete their files, with the copies of images; undo is not possible")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", "-f", help="Do not ask for confirmation")] = False,
    wait: options.Wait = WAIT_S,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove concepts from the store.

    Removes all of the named concepts, or none. The training state of these names is deleted too.

    In token and prompt mode no other image changes. In merged mode, later concepts that shared neurons are listed.
    The files of a removed concept, including copies of its images, stay in the store until cnsctl gc deletes them;
    cnsctl undo brings the concept back. With --purge they are deleted at once, also on a full disk.

    Example:  cnsctl rm dog hat -y
    """
    from cnsctl.app import concepts, stores

    opened = stores.open_store(store, wait_s=wait)
    names = _wanted(names or [], opened, every=every, unfinished=unfinished)
    concepts.removable(opened, names, only_unfinished=unfinished)
    if not yes:
        _ask(names, unfinished=unfinished, purge=purge, every=every)
    with Output(
        as_json=as_json, quiet=quiet, human=tables.removed, bare=lambda r: [*r.removed, *r.discarded]
    ) as output:
        output.run(concepts.remove(opened, names, only_unfinished=unfinished, purge=purge))


def _wanted(names: list[str], store: OpenedStore, *, every: bool, unfinished: bool) -> list[str]:
    from cnsctl.app import concepts
    from cnsctl.errors import UsageError

    if every and names:
        raise UsageError("--all and names do not belong together", hint="leave out one of them")
    if not every and not names:
        raise UsageError("missing argument 'CONCEPT...'", hint="see cnsctl rm --help")
    return concepts.all_of(store, only_unfinished=unfinished) if every else names


def _ask(names: list[str], *, unfinished: bool, purge: bool, every: bool) -> None:
    from cnsctl.errors import UsageError

    option, what = ("--unfinished ", "delete the training state of") if unfinished else ("", "remove")
    if purge and not unfinished:
        option, what = "--purge ", "remove and delete, without undo,"
    if not sys.stdin.isatty():
        raise UsageError(
            "cannot ask for confirmation: stdin is not a terminal",
            hint=f"cnsctl rm {option}{'--all' if every else ' '.join(names)} -y",
        )
    if not agreed(f"{what} {', '.join(f'<{n}>' for n in names)}?"):
        sys.stderr.write("nothing was removed\n")
        raise typer.Exit(1)
