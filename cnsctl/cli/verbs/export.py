"""`cnsctl export`: concepts as files for other tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output, refuse_bytes
from cnsctl.settings import ComputeSettings, ExportSettings


@options.with_settings(settings=ExportSettings, compute=(ComputeSettings, ("device", "memory")))
def command(
    names: Annotated[list[str], typer.Argument(metavar="CONCEPT...", help="Names of concepts")],
    *,
    settings: dict[str, Any],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            readable=False,
            show_default=False,
            help="A file, a folder, or - for the bytes of one file.  [default: this folder]",
        ),
    ] = None,
    force: options.Force = False,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Do not measure the error removed through a fitted LoRA")
    ] = False,
    compute: dict[str, Any],
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write concepts as files for other tools.

    lora: a LoRA that is fitted to the concept's own tokens, with its token embeddings in a second file: for ComfyUI,
    A1111, Forge, InvokeAI and diffusers. lora-exact, diff, kv, custom-diffusion: the whole difference, on all words.
    embedding: the token embeddings alone. native, bundle: for another store. checkpoint: a diffusers folder.
    Prints where each file goes and the line to type there.

    Example:  cnsctl export dog -o out/
    """
    from cnsctl.app import stores
    from cnsctl.app.export import ExportRequest, export

    to_stdout = output == Path("-")
    refuse_bytes(as_json=as_json, to_stdout=to_stdout, instead="-o FILE")
    request = ExportRequest(
        names=names,
        output=output,
        force=force,
        measure=not no_measure,
        settings=settings,
        compute=compute,
        stdout=sys.stdout.buffer if to_stdout else None,
    )
    human, bare = (tables.nothing, tables.nothing) if to_stdout else (tables.exported, tables.exported_files)
    with Output(as_json=as_json, quiet=quiet, human=human, bare=bare) as shown:
        shown.run(export(stores.open_store(store), request))
