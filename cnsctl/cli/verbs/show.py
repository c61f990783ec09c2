"""`cnsctl show`: everything about concepts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnsctl.cli import details, options
from cnsctl.cli.output import Output

if TYPE_CHECKING:
    from cnsctl.results import ShowResult


def command(
    names: options.Concepts,
    *,
    open_preview: Annotated[
        bool, typer.Option("--open", help="Open the images made after the training in the system's viewer")
    ] = False,
    overlaps: Annotated[
        bool, typer.Option("--overlaps", help="Count the neurons shared with each other concept; reads all of them")
    ] = False,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show everything about one or more concepts.

    Shows the images that were generated right after the training, in a terminal that can (kitty, iTerm2, or in half
    blocks). -v adds settings and the paths of files. --json prints one object per concept.

    Example:  cnsctl show dog
    """
    from cnsctl.app import concepts, stores
    from cnsctl.results import ShowResult

    opened = stores.open_store(store)
    found = [concepts.show(opened, name, overlaps=overlaps) for name in dict.fromkeys(names)]
    with Output[ShowResult](
        as_json=as_json,
        quiet=quiet,
        human=lambda r: details.shown(r, store=store, verbose=verbose),
        bare=lambda r: [r.concept.name],
        previews=True,
    ) as output:
        for result in found:
            if result.preview is not None:
                output.preview(Path(result.preview))
            output.result(result)
    if open_preview:
        _open(found)


def _open(found: list[ShowResult]) -> None:
    from cnsctl.cli.viewer import open_image
    from cnsctl.errors import UsageError

    missing = [result.concept.name for result in found if result.preview is None]
    if missing:
        raise UsageError(
            f"no images of <{missing[0]}> to open", note="none were generated after its training", reason="no-preview"
        )
    for result in found:
        open_image(Path(result.preview or ""), f"{result.concept.name}.png")
