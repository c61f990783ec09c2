"""Options that several verbs share, each described once.

Owns flags and their help; must not know what verbs do with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Store = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="DIR", readable=False, help="The store. Default: $CNSCTL_STORE, else the user-data folder."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, errors included; the README tells the keys.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Bare names or paths, one a line; no progress.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cuda|mps|cpu", help="Where to compute.")]
Dtype = Annotated[str, typer.Option("--dtype", metavar="auto|fp32|bf16|fp16", help="Precision; fp16 only draws.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Write over files that exist.")]

ClassWord = Annotated[
    str | None,
    typer.Option(
        "--class", metavar="WORD", help="What kind of thing it is. Default: the name, where the base knows it."
    ),
]
LearnSteps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        help="Training steps; the first fifth trains the token alone. Default: the base's.",
        show_default=False,
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--lr",
        help="Learning rate of the neurons. Default: the base's (untuned on Stable Diffusion).",
        show_default=False,
    ),
]
RateVectors = Annotated[
    float | None,
    typer.Option("--lr-token", help="Learning rate of the token. Default: the base's.", show_default=False),
]
Vectors = Annotated[
    int | None, typer.Option("--vectors", help="Token vectors that stand for it.  [default: 1]", show_default=False)
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget", help="Share of the K/V weights that it may change, 0 to 1. Default: the base's.", show_default=False
    ),
]
BatchSize = Annotated[
    int | None, typer.Option("--batch", help="Pictures per step. Default: the base's.", show_default=False)
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed of every random draw.  [default: 0]", show_default=False)
]
Policy = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="overlap|prefer-free|exclusive",
        help="In merged, neurons that others own: take them, take free ones first, or leave them.  [default: overlap]",
        show_default=False,
    ),
]
Orthogonal = Annotated[
    bool,
    typer.Option("--orthogonal", help="In merged: learn only in directions that earlier concepts do not read."),
]
Holdout = Annotated[
    int,
    typer.Option("--holdout", help="Keep the last N pictures out of the learning, to measure on them."),
]
RandomMask = Annotated[bool, typer.Option("--random-mask", help="For comparison: random neurons, as many.")]


def given(**settings: Any) -> dict[str, Any]:
    """The settings that were given: None means "not given"."""
    return {key: value for key, value in settings.items() if value is not None}


def learn_settings(**flags: Any) -> dict[str, Any]:
    """Fields of `LearnSpec` from the flags of `add` and `score`."""
    from cnsctl.errors import UsageProblem
    from cnsctl.specs import Policy as Policies

    policy = flags.pop("policy")
    if policy is not None and policy not in set(Policies):
        raise UsageProblem(f"no policy is called {policy!r}", hint=f"use one of: {', '.join(Policies)}")
    names = {"lr": "rate_values", "lr_token": "rate_vectors"}
    settings = {names.get(key, key): value for key, value in flags.items()}
    return given(**settings, policy=None if policy is None else Policies(policy))
