"""`cnsctl add`: train a concept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import WAIT_S, ComputeSettings, TrainSettings


@options.with_settings(settings=TrainSettings, compute=ComputeSettings)
def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name of the concept: <NAME> in prompts", show_default=False),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGES...", readable=False, help="A folder of images, or image files", show_default=False
        ),
    ] = None,
    *,
    from_list: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            readable=False,
            help="Train the concepts of a concepts_list.json instead; those in the store are skipped",
            show_default=False,
        ),
    ] = None,
    class_word: options.ClassWord = None,
    holdout: options.Holdout = 0,
    recursive: options.Recursive = False,
    masks: options.Masks = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the concept of this name")] = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Delete the state of an interrupted run of this name, and train from step 0"),
    ] = False,
    no_preview: Annotated[bool, typer.Option("--no-preview", help="Do not generate images after the training")] = False,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Save right after the training, without scores and images")
    ] = False,
    allow_worse: Annotated[
        bool, typer.Option("--allow-worse", help="Save the concept even if it is worse than its class word")
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
    wait: options.Wait = WAIT_S,
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a concept from images.

    About five images are enough, of any shape: PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF, or HEIC with cnsctl[heic]. The
    text in a.txt beside a.png is the caption of that image. Folders of kohya's scripts, DreamBooth and CustomConcept101
    are read as they are. The store keeps copies of the images for evaluation. After an interruption, run the same command
    again: it continues where it stopped. With other settings it is refused, unless you add --restart.

    After the training the concept is measured, for at most 10 % of the training time: error removed always, the images
    as far as there is time. A concept that is worse than its class word alone is not saved.

    Example:  cnsctl add hat ./examples/hat --class "top hat"
    """
    from cnsctl.app import stores, train_list
    from cnsctl.app.requests import TrainRequest
    from cnsctl.app.train import train
    from cnsctl.errors import UsageError

    if from_list is not None:
        if name is not None or class_word is not None or masks is not None:
            raise UsageError(
                "a list brings its own names, images, class words and masks",
                note=f"the list: {from_list}",
                hint="leave out NAME, IMAGES, --class and --masks, or --from",
            )
        asked = train_list.ListRequest(
            file=from_list,
            settings=settings,
            holdout=holdout,
            recursive=recursive,
            replace=replace,
            restart=restart,
            allow_forgetting=allow_forgetting,
            allow_worse=allow_worse,
            compute=compute,
        )
        with Output(as_json=as_json, quiet=quiet, human=tables.trained_list, bare=tables.trained, lines=True) as shown:
            result = shown.run(
                stores.with_store(store, lambda opened: train_list.train_list(opened, asked), wait_s=wait)
            )
        if (found := train_list.problem(result)) is not None:
            raise found
        return
    if name is None or not images:
        raise UsageError(f"missing argument '{'NAME' if name is None else 'IMAGES...'}'", hint="see cnsctl add --help")
    request = TrainRequest(
        name=name,
        sources=images,
        class_word=class_word,
        settings=settings,
        holdout=holdout,
        recursive=recursive,
        masks=masks,
        replace=replace,
        restart=restart,
        allow_forgetting=allow_forgetting,
        allow_worse=allow_worse,
        preview=not no_preview,
        measure=not no_measure,
        compute=compute,
    )
    with Output(
        as_json=as_json, quiet=quiet, human=tables.added, bare=lambda r: [r.concept.name], lines=True
    ) as output:
        output.run(stores.with_store(store, lambda opened: train(opened, request), wait_s=wait))
