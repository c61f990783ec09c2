"""`cnsctl import`: take concepts from files of cnsctl and of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import WAIT_S, ComputeSettings, TrainSettings


@options.with_settings(settings=(TrainSettings, ("budget",)), compute=ComputeSettings)
def command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            readable=False,
            help="A delta, a bundle or another program's file; with weights, also the file of their token embeddings",
        ),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Name of the concept.  [default: from the file]", show_default=False
        ),
    ] = None,
    class_word: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="WORD",
            help="Class word after the token embeddings, or in their place if the file has none.  [default: as the file says]",
            show_default=False,
        ),
    ] = None,
    kv_only: Annotated[
        bool, typer.Option("--kv-only", help="Leave out what the file changes beside K and V of cross-attention")
    ] = False,
    settings: dict[str, Any],
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename",
            metavar="OLD=NEW",
            help="Give a concept of a bundle another name; can be repeated.  [default: none]",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace concepts of these names")] = False,
    compute: dict[str, Any],
    wait: options.Wait = WAIT_S,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Import concepts from files.

    Reads deltas and bundles of cnsctl, textual inversions, Custom Diffusion, full differences, and LoRA files that change
    K and V of cross-attention; safetensors only. All concepts of a file are imported, or none.

    Weights of other programs are sparsified to the budget. The relative error of keys and values is printed; --budget 1
    keeps every weight.

    Example:  cnsctl import cat-toy.safetensors
    """
    from cnsctl.app import stores
    from cnsctl.app.import_ import import_, refuse_missing
    from cnsctl.app.import_files import ImportRequest

    request = ImportRequest(
        files=files,
        name=name,
        class_word=class_word,
        budget=settings.get("budget"),
        kv_only=kv_only,
        renames=_renames(rename or []),
        replace=replace,
        compute=compute,
    )
    with Output(as_json=as_json, quiet=quiet, human=tables.imported, bare=tables.imported_names, lines=True) as output:
        output.run(
            stores.with_store(
                store, lambda opened: import_(opened, request), wait_s=wait, before=lambda _: refuse_missing(request)
            )
        )


def _renames(given: list[str]) -> dict[str, str]:
    from cnsctl.errors import UsageError

    pairs = [pair.partition("=") for pair in given]
    if wrong := [pair for pair, (old, _, new) in zip(given, pairs, strict=True) if not old or not new]:
        raise UsageError(f"not two names: {wrong[0][:80]!r}", hint="write --rename OLD=NEW")
    olds = [old for old, _, _ in pairs]
    if twice := [old for old in olds if olds.count(old) > 1]:
        raise UsageError(f"two new names for {twice[0][:80]!r}", hint="write --rename OLD=NEW once for each concept")
    return {old: new for old, _, new in pairs}
