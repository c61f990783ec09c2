"""Asking before a download.

Owns the question; must not know how anything is downloaded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from cnsctl.cli.streams import agreed
from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def agree(base: str | None, *, metrics: Iterable[str | None] = (), yes: bool, quiet: bool = False) -> None:
    """Print what would be downloaded, and let the user decide.

    Args:
        base: a base model as the user named it.
        metrics: models that measure images.
        yes: the user has decided.
        quiet: do not print it if the user has decided.

    Raises:
        UsageError: there is something to download, but no terminal to ask on.
        BaseModelError: the hub cannot be reached, or a repository contains nothing that cnsctl can use.
    """
    from cnsctl.app.sources import download_of, download_text

    named = [(base, True), *((given, False) for given in metrics)]
    found = [planned for given, pipeline in named if (planned := download_of(given, pipeline=pipeline)) is not None]
    if not found or (yes and quiet):
        return
    for download in found:
        sys.stderr.write(f"{'download' if yes else 'to download'}: {download_text(download)}\n")
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("cannot ask for confirmation: stdin is not a terminal", reason="download")
    if not agreed("download?"):
        sys.stderr.write("nothing was downloaded\n")
        raise typer.Exit(1)
