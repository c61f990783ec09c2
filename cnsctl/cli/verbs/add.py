"""`cnsctl add`: train a concept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import WAIT_S, ComputeSettings, TrainSettings

if TYPE_CHECKING:
    from cnsctl.app.requests import TrainRequest
    from cnsctl.app.train_list import ListRequest


@options.with_settings(settings=TrainSettings, compute=ComputeSettings)
def command(
    name: Annotated[
        str | None,
        options.name_argument("NAME", "Name of the concept: <NAME> in prompts"),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES...", help="A folder of images, or image files", show_default=False),
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
    preview_every: Annotated[
        int,
        typer.Option(
            "--preview-every",
            metavar="N",
            help="Generate four images every N steps; the result is the same.  [default: never]",
            show_default=False,
        ),
    ] = 0,
    preview_folder: Annotated[
        Path | None,
        typer.Option(
            "--preview-folder",
            metavar="DIR",
            readable=False,
            help="Folder of these images.  [default: NAME-previews]",
            show_default=False,
        ),
    ] = None,
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
    verbose: options.Verbose = False,
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
    from cnsctl.app.requests import TrainRequest
    from cnsctl.app.train_list import ListRequest
    from cnsctl.errors import UsageError

    common: dict[str, Any] = {
        "settings": settings,
        "holdout": holdout,
        "recursive": recursive,
        "replace": replace,
        "restart": restart,
        "allow_forgetting": allow_forgetting,
        "allow_worse": allow_worse,
        "preview_every": preview_every,
        "compute": compute,
    }
    shown: dict[str, Any] = {"as_json": as_json, "quiet": quiet, "lines": True, "verbose": verbose}
    if from_list is not None:
        if name is not None or class_word is not None or masks is not None:
            raise UsageError(
                "a list brings its own names, images, class words and masks",
                note=f"the list: {from_list}",
                hint="leave out NAME, IMAGES, --class and --masks, or --from",
            )
        _train_list(ListRequest(file=from_list, preview_folder=preview_folder or Path(), **common), store, wait, shown)
        return
    if name is None or not images:
        hint = (
            f"the name comes first: cnsctl add NAME {name}" if name and Path(name).exists() else "see cnsctl add --help"
        )
        raise UsageError(f"missing argument '{'NAME' if name is None else 'IMAGES...'}'", hint=hint)
    request = TrainRequest(
        name=name,
        sources=images,
        class_word=class_word,
        masks=masks,
        preview=not no_preview,
        measure=not no_measure,
        preview_folder=preview_folder or Path(f"{name}-previews"),
        **common,
    )
    _train(request, store, wait, shown)


def _train(request: TrainRequest, store: Path | None, wait: float, shown: dict[str, Any]) -> None:
    from cnsctl.app import stores
    from cnsctl.app.requests import readable
    from cnsctl.app.train import train

    human = tables.added_in_detail if shown["verbose"] else tables.added
    with Output(human=human, bare=lambda r: [r.concept.name], **shown) as output:
        output.run(
            stores.with_store(
                store,
                lambda opened: train(opened, request),
                wait_s=wait,
                before=lambda pocket: readable(pocket, request),
            )
        )


def _train_list(request: ListRequest, store: Path | None, wait: float, shown: dict[str, Any]) -> None:
    from cnsctl.app import stores, train_list

    with Output(human=tables.trained_list, bare=tables.trained, **shown) as output:
        result = output.run(
            stores.with_store(
                store,
                lambda opened: train_list.train_list(opened, request),
                wait_s=wait,
                before=lambda folder: train_list.readable_list(folder, request),
            )
        )
    if (found := train_list.problem(result)) is not None:
        raise found
