"""`cnsctl score`: what `add` would choose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnsctl.cli import options, words
from cnsctl.cli.render import View


def score(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name it would get.")],
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURES...", readable=False, help="A folder of pictures, or files.")
    ],
    class_word: options.ClassWord = None,
    holdout: options.Holdout = 0,
    steps: options.LearnSteps = None,
    lr_token: options.RateVectors = None,
    vectors: options.Vectors = None,
    budget: options.Budget = None,
    batch: options.BatchSize = None,
    seed: options.Seed = None,
    policy: options.Policy = None,
    random_mask: options.RandomMask = False,
    store: options.Store = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show which neurons add would train.

    Trains the token as `add` does (a fifth of the steps), scores, selects, and stops: the mask is add's, byte for byte.
    Nothing is kept.

    Example:  cnsctl score dog ./examples/dog
    """
    from cnsctl.app import shelf
    from cnsctl.app.admit import AddRequest
    from cnsctl.app.score import score as choose
    from cnsctl.app.session import Compute

    settings = options.learn_settings(
        steps=steps, lr_token=lr_token, vectors=vectors, budget=budget, batch=batch, seed=seed, policy=policy,
        random_mask=True if random_mask else None,
    )  # fmt: skip
    request = AddRequest(
        name=name,
        sources=pictures,
        class_word=class_word,
        settings=settings,
        holdout=holdout,
        compute=Compute(device=device, dtype=dtype),
    )
    with View(as_json=as_json, quiet=quiet, human=words.scored, bare=lambda data: [data["mask"]]) as view:
        view.show(choose(shelf.open_store(store), request))
