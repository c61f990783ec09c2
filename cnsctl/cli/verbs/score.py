"""`cnsctl score`: what `add` would train."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.output import Output
from cnsctl.settings import ComputeSettings, TrainSettings

SETTINGS = (
    "steps", "token_learning_rate", "batch_size", "resolution", "budget", "seed", "token_embeddings", "warmup", "policy", "select",
    "random_mask",
)  # fmt: skip
"""Those that decide which neurons are selected."""


@options.with_settings(settings=(TrainSettings, SETTINGS), compute=ComputeSettings)
def command(
    name: Annotated[str, options.name_argument("NAME", "Name that the concept would get")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help="A folder of images, or image files")],
    *,
    class_word: options.ClassWord = None,
    holdout: options.Holdout = 0,
    recursive: options.Recursive = False,
    masks: options.Masks = None,
    settings: dict[str, Any],
    compute: dict[str, Any],
    store: options.Store = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show which neurons add would train.

    Trains the token embedding as add does, scores, selects, and stops. The mask is equal to the one of add. Nothing is
    saved.

    Example:  cnsctl score dog ./examples/dog
    """
    from cnsctl.app import stores
    from cnsctl.app.requests import TrainRequest
    from cnsctl.app.score import score

    request = TrainRequest(
        name=name,
        sources=images,
        class_word=class_word,
        settings=settings,
        holdout=holdout,
        recursive=recursive,
        masks=masks,
        compute=compute,
    )
    with Output(as_json=as_json, quiet=quiet, human=tables.scored, bare=lambda r: [r.mask]) as output:
        output.run(score(stores.open_store(store), request))
