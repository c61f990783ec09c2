"""`cnsctl info`: how images were generated."""

from __future__ import annotations

from typing import Annotated

import typer

from cnsctl.cli import image_facts, options
from cnsctl.cli.output import Output


def command(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Images that gen wrote")],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show how an image was generated.

    Each PNG of gen records its prompt, seed, sampler, steps, size, base model and concepts. -q prints the prompts.
    gen --like FILE repeats the request.

    Example:  cnsctl info dog-7.png
    """
    from cnsctl.app import info

    with Output(as_json=as_json, quiet=quiet, human=image_facts.lines, bare=image_facts.prompts) as output:
        result = info.info(files)
        output.result(result)
    if (found := info.problem(result)) is not None:
        raise found
