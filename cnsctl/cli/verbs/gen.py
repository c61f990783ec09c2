"""`cnsctl gen`: generate images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cnsctl.cli import options
from cnsctl.cli.arrivals import Arrivals
from cnsctl.cli.output import Output
from cnsctl.settings import ComputeSettings, GenerateSettings, RequestSettings

NegativePrompt = Annotated[
    str,
    typer.Option("--negative-prompt", help="What the images should not show.  [default: empty]", show_default=False),
]


@options.with_settings(images=RequestSettings, settings=GenerateSettings, compute=ComputeSettings)
def command(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT...", help='Quoted prompts: "<dog> on a beach". - reads them from stdin, one per line'
        ),
    ] = None,
    *,
    images: dict[str, Any],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            readable=False,
            show_default=False,
            help="FILE.png, a folder, or - for PNG bytes.  [default: this folder]",
        ),
    ] = None,
    negative_prompt: NegativePrompt = "",
    settings: dict[str, Any],
    force: options.Force = False,
    compute: dict[str, Any],
    store: options.Store = None,
    as_json: options.Json = False,
    json_steps: Annotated[
        bool, typer.Option("--json-steps", help="With --json: print a line per inference step too")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Generate images from prompts.

    <dog> names a concept, <dog:0.8> scales it; @dog at the start of a word is the same without shell quoting.
    Prints the path of each image as soon as it is on disk. -o FILE.png with several images writes FILE-SEED.png; a
    folder gets PROMPT-SEED.png. With --batch-size N, up to N images are generated together; lines of stdin that have
    arrived share a batch.

    Example:  cnsctl gen "<dog> wearing <hat> in the snow" -n 4 --seed 7 -o out/
    """
    from cnsctl.app import generate, stores
    from cnsctl.errors import UsageError

    asked, given_seed = prompts or [], images.get("seed")
    if json_steps and not as_json:
        raise UsageError("--json-steps prints lines of JSON", hint="add --json")
    _refuse_stdout(output, as_json=as_json)
    _refuse_unquoted(store, asked)
    if not asked:
        raise UsageError("no prompt", reason="no-prompt")
    shown: Output[Any] = Output(
        as_json=as_json,
        quiet=quiet,
        human=lambda _: (),
        bare=lambda _: (),
        lines=True,
        previews=output != Path("-"),
        denoised=json_steps,
    )
    request = generate.GenerateRequest(
        prompts=[p for p in asked if p != "-"],
        stream=_arriving(shown, at_most=_together(images.get("batch_size", 1))) if "-" in asked else None,
        negative_prompt=negative_prompt,
        output=output,
        force=force,
        settings=settings,
        compute=compute,
        **{**images, "seed": generate.chosen_seed(given_seed)},
    )
    with shown:
        if len(asked) > 1 and not any(" " in prompt for prompt in asked):
            shown.note(f"{len(asked)} prompts of one word each; quote a prompt of several words")
        if given_seed != request.seed and output is not None and (output.suffix or output == Path("-")):
            shown.note(f"seed {request.seed}")  # the file name does not contain it
        result = shown.run(stores.with_store(store, lambda opened: generate.generate(opened, request)))
        if not result.generated and not result.failed:
            shown.note("no image: the standard input contains no prompt")
    if (found := generate.problem(result)) is not None:
        raise found


def _together(batch_size: int | str) -> int:
    """Lines of stdin that may share a batch."""
    from cnsctl.app.generate import MAX_BATCH

    return batch_size if isinstance(batch_size, int) else MAX_BATCH


def _refuse_stdout(output: Path | None, *, as_json: bool) -> None:
    from cnsctl.errors import UsageError

    if output != Path("-"):
        return
    if as_json:
        raise UsageError("cannot write both an image and JSON to stdout", hint="use one of -o - and --json")
    if sys.stdout.isatty():
        raise UsageError("cannot write the bytes of a PNG to the terminal", hint="add > FILE.png, or use -o FILE.png")


def _arriving(shown: Output[Any], *, at_most: int) -> Iterator[list[str]]:
    """Lines of stdin as they arrive, without comments: lines that begin with #."""
    if sys.stdin.isatty():
        shown.note("prompts, one per line; Ctrl-D ends")
    lines = Arrivals(sys.stdin)
    while True:
        shown.rest()
        if not (arrived := lines.next(at_most)):
            return
        yield [line for line in arrived if not line.lstrip().startswith("#")]


def _refuse_unquoted(store: Path | None, asked: list[str]) -> None:
    """Without quotes, `gen <dog> on a beach` makes the shell read a file `dog` and empty a file `on`."""
    from cnsctl.cli.shell import redirected_concept
    from cnsctl.errors import StoreNotFoundError, UsageError

    if "-" in asked or sys.stdin is None or sys.stdin.isatty():
        return
    try:
        name = redirected_concept(0, _names(store))
    except StoreNotFoundError:
        return
    if name is not None:
        raise UsageError(
            f"the shell read <{name}> as a redirection",
            note="a file named after > may have been emptied",
            hint=f'quote the prompt: cnsctl gen "<{name}> …", or write @{name} without quotes',
        )


def _names(store: Path | None) -> Iterator[str]:
    """Concepts of the store, which is opened when the first name is needed."""
    from cnsctl.app import concepts, stores

    yield from concepts.known_names(stores.open_store(store))
