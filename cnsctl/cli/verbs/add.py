"""`cnsctl add`: learn a concept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnsctl.cli import options, tables
from cnsctl.cli.begin import begin
from cnsctl.cli.output import View


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the concept is called: <NAME> in prompts.")],
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURES...", readable=False, help="A folder of pictures, or files.")
    ],
    class_word: options.ClassWord = None,
    holdout: options.Holdout = 0,
    steps: options.LearnSteps = None,
    lr: options.Rate = None,
    lr_token: options.RateVectors = None,
    vectors: options.Vectors = None,
    budget: options.Budget = None,
    batch: options.BatchSize = None,
    seed: options.Seed = None,
    policy: options.Policy = None,
    orthogonal: options.Orthogonal = False,
    random_mask: options.RandomMask = False,
    replace: Annotated[bool, typer.Option("--replace", help="Learn it anew in place of the one of this name.")] = False,
    allow_forgetting: Annotated[
        bool, typer.Option("--allow-forgetting", help="In merged: keep it even if others lose by it.")
    ] = False,
    store: options.Store = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn a concept from a few pictures and keep it in the store.

    About five pictures are enough: PNG, JPEG or WEBP, cut to their centre square. NAME.txt beside NAME.png is read as
    that picture's caption. The store keeps copies, for later checks. If the command is interrupted, run it again to
    resume.

    Example:  cnsctl add hat ./examples/hat --class "top hat"
    """
    from cnsctl.app.requests import AddRequest
    from cnsctl.app.session import Compute
    from cnsctl.app.train import add as learn

    settings = options.learn_settings(
        steps=steps, lr=lr, lr_token=lr_token, vectors=vectors, budget=budget, batch=batch, seed=seed, policy=policy,
        orthogonal=orthogonal or None, random_mask=random_mask or None,
    )  # fmt: skip
    request = AddRequest(
        name=name,
        sources=pictures,
        class_word=class_word,
        settings=settings,
        holdout=holdout,
        replace=replace,
        allow_forgetting=allow_forgetting,
        compute=Compute(device=device, dtype=dtype),
    )
    with View(as_json=as_json, quiet=quiet, human=tables.added, bare=tables.concept_name, lines=True) as view:
        view.show(begin(store, lambda opened: learn(opened, request)))
