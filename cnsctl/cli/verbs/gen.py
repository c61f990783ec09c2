"""`cnsctl gen`: draw pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cnsctl.cli import options
from cnsctl.cli.arrivals import Arrivals
from cnsctl.cli.begin import begin
from cnsctl.cli.output import View


def gen(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT...", help='Prompts, quoted: "<dog> on a beach". - reads them from stdin, one a line.'
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", help="Pictures per prompt; picture k uses seed + k.")] = 1,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the first picture. Default: a random one.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            readable=False,
            help="FILE.png, a folder, or - for PNG bytes. Default: this folder.",
        ),
    ] = None,
    negative: Annotated[
        str, typer.Option("--negative", help="What the pictures should not show. Default: nothing.")
    ] = "",
    steps: Annotated[
        int | None, typer.Option("--steps", help="Denoising steps. Default: the base's.", show_default=False)
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance", help="How closely to follow the text; 1 is off. Default: the base's.", show_default=False
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            metavar="NAME",
            help="base, dpm++, dpm++sde, euler, euler-a, ddim, ddpm, heun, unipc. Default: the base's.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", help="Pixels per side, a multiple of 64. Default: the base's.", show_default=False),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", help="Images at a time. 1 makes each independent of the others.")
    ] = 1,
    force: options.Force = False,
    store: options.Store = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw pictures of prompts that may name learned concepts.

    <dog> names a concept, <dog:0.8> scales it, @dog at the start of a word is the same without shell quoting.
    Prints the path of each image as soon as it is on disk. -o FILE.png with several images gives FILE-SEED.png;
    a folder gets PROMPT-SEED.png. With --batch N, up to N images are generated together; lines of stdin that have
    arrived share a batch.

    Example:  cnsctl gen "<dog> wearing <hat> in the snow" -n 4 --seed 7 -o out/
    """
    from cnsctl.app.generate import DrawRequest, generate
    from cnsctl.app.session import Compute
    from cnsctl.errors import UsageProblem

    asked = prompts or []
    _refuse_stdout(output, as_json=as_json)
    view = View(
        as_json=as_json, quiet=quiet, human=lambda _: (), bare=lambda _: (), lines=True, previews=output != Path("-")
    )
    request = DrawRequest(
        prompts=[p for p in asked if p != "-"],
        stream=_arriving(view, at_most=batch) if "-" in asked else None,
        negative=negative,
        count=count,
        seed=_random_seed() if seed is None else seed,
        output=output,
        force=force,
        batch=batch,
        settings=options.given(steps=steps, guidance=guidance, sampler=sampler, size=size),
        compute=Compute(device=device, dtype=dtype),
    )
    _refuse_unquoted(store, asked)
    if not asked:
        raise UsageProblem(
            "no prompt was given", hint='try: cnsctl gen "<dog> on a beach", or cnsctl gen - < prompts.txt'
        )
    with view:
        if len(asked) > 1 and not any(" " in prompt for prompt in asked):
            view.note(f"{len(asked)} prompts, of one word each; quote a prompt of several words")
        if seed is None and output is not None and (output.suffix or output == Path("-")):  # other names tell it
            view.note(f"seed {request.seed}")
        view.show(begin(store, lambda opened: generate(opened, request)))


def _refuse_stdout(output: Path | None, *, as_json: bool) -> None:
    from cnsctl.errors import UsageProblem

    if output != Path("-"):
        return
    if as_json:
        raise UsageProblem("-o - and --json both want stdout", hint="use one of them")
    if sys.stdout.isatty():
        raise UsageProblem(
            "-o - would write the bytes of a PNG to the terminal", hint="add > FILE.png, or use -o FILE.png"
        )


def _arriving(view: View, *, at_most: int) -> Iterator[list[str]]:
    """Lines of stdin as they arrive; meanwhile a person may be typing."""
    if sys.stdin.isatty():
        view.note("prompts, one a line; Ctrl-D ends")
    lines = Arrivals(sys.stdin)
    while True:
        view.rest()
        if not (arrived := lines.next(at_most)):
            return
        yield arrived


def _random_seed() -> int:
    import secrets

    return secrets.randbelow(2**31)


def _refuse_unquoted(store: Path | None, asked: list[str]) -> None:
    """Typed without quotes, `gen <dog> on a beach` makes the shell read a file `dog` and empty a file `on`."""
    from cnsctl.cli.shell import redirected_concept
    from cnsctl.errors import NoStore, UsageProblem

    if "-" in asked or sys.stdin is None or sys.stdin.isatty():
        return
    try:
        name = redirected_concept(0, _names(store))
    except NoStore:
        return
    if name is not None:
        raise UsageProblem(
            f"the shell took <{name}> for a redirection: quote the prompt",
            hint=f'write cnsctl gen "<{name}> …", or @{name} without quotes; a file named after > may have been emptied',
        )


def _names(store: Path | None) -> Iterator[str]:
    """Concepts of the store, which is opened when the first is asked for."""
    from cnsctl.app.shelf import known_names, open_store

    yield from known_names(open_store(store))
