"""`cnsctl add`: train a concept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import ComputeSettings, TrainSettings


@options.with_settings(settings=TrainSettings, compute=ComputeSettings)
def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the concept: <NAME> in prompts")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", readable=False, help="A folder of images, or image files")
    ],
    *,
    class_word: options.ClassWord = None,
    holdout: options.Holdout = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the concept of this name")] = False,
    no_preview: Annotated[bool, typer.Option("--no-preview", help="Do not generate images after the training")] = False,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Save right after the training, without scores and images")
    ] = False,
    settings: dict[str, Any],
    compute: dict[str, Any],
    allow_forgetting: Annotated[
        bool,
        typer.Option(
            "--allow-forgetting",
            help="Save the concept even if an earlier one loses more than 5 points",
            rich_help_panel="Merged mode",
        ),
    ] = False,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a concept from images.

    About five images are enough: PNG, JPEG or WebP, cropped to a square. The text in NAME.txt beside NAME.png is the
    caption of that image. The store keeps copies of the images for evaluation. After an interruption, run the same
    command again: it continues where it stopped.

    After the training the concept is measured, for at most 10 % of the training time: error removed always, the images
    as far as there is time.

    Example:  cnsctl add hat ./examples/hat --class "top hat"
    """
    from cnsctl.app import stores
    from cnsctl.app.requests import TrainRequest
    from cnsctl.app.train import train

    request = TrainRequest(
        name=name,
        sources=images,
        class_word=class_word,
        settings=settings,
        holdout=holdout,
        replace=replace,
        allow_forgetting=allow_forgetting,
        preview=not no_preview,
        measure=not no_measure,
        compute=compute,
    )
    with Output(
        as_json=as_json, quiet=quiet, human=tables.added, bare=lambda r: [r.concept.name], lines=True
    ) as output:
        output.run(stores.with_store(store, lambda opened: train(opened, request)))
