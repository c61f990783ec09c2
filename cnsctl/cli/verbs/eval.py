"""`cnsctl eval`: measure concepts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import ComputeSettings

if TYPE_CHECKING:
    from cnsctl.errors import CnsctlError


@options.with_settings(compute=ComputeSettings)
def command(
    names: options.AnyConcepts = None,
    *,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Measure error removed only: fast, generates nothing")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Measure in full, also what add had little time to measure")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", readable=False, show_default=False, help="Also write a page with the images"
        ),
    ] = None,
    force: options.Force = False,
    compute: dict[str, Any],
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure concepts and forgetting.

    Each concept is measured on its held-out images (add --holdout), or else on all of its images, beside the class word
    alone and beside its scores right after training. It is measured in the same way as then; with --full as thoroughly as
    possible, where the two cannot be compared.

    Error removed: percent of the denoising error that naming the concept removes.
    CLIP-I, CLIP-T: similarity of generated images, if the base model has a CLIP. Drift: of ten prompts without a concept.

    --html writes one file that needs no network: images, figures, forgetting, ownership.

    Example:  cnsctl eval dog --json
    """
    from cnsctl.app import evaluate, report_page, stores

    opened = stores.open_store(store)
    work = evaluate.evaluate(opened, names or [], compute, images=not no_images, full=full)
    failures: list[CnsctlError] = []
    if html is not None:
        work = report_page.measured(opened, work, html, force=force, failed=failures.append)
    with Output(as_json=as_json, quiet=quiet, human=tables.evaluated, bare=tables.names) as output:
        result = output.run(work)
    if result.damaged:
        failures.append(evaluate.cannot_be_read(result.store, result.damaged))
    if failures:  # all that could be measured is printed
        raise failures[-1]
