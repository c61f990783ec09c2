"""`cnsctl gen`: generate images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cnsctl.cli import misread, options
from cnsctl.cli.arrivals import Arrivals
from cnsctl.cli.output import Output
from cnsctl.errors import UsageError
from cnsctl.settings import RANDOM_SEED, ComputeSettings, GenerateSettings, RequestSettings

NegativePrompt = Annotated[
    str | None,
    typer.Option("--negative-prompt", help="What the images should not show.  [default: empty]", show_default=False),
]

Like = Annotated[
    Path | None,
    typer.Option(
        "--like",
        metavar="FILE",
        readable=False,
        show_default=False,
        help="Repeat the request that this image records; other options replace parts of it",
    ),
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Also generate with the class word on the base model: one sheet of both")
]
Sheet = Annotated[
    Path | None,
    typer.Option(
        "--sheet",
        metavar="FILE",
        readable=False,
        show_default=False,
        help="Also write all images as one PNG, with prompts",
    ),
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Keep files that the same request has made; needs --seed or --like")
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
    negative_prompt: NegativePrompt = None,
    settings: dict[str, Any],
    like: Like = None,
    compare: Compare = False,
    sheet: Sheet = None,
    skip_existing: SkipExisting = False,
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
    from cnsctl.app import generate, generate_request, made, stores

    asked, given_seed = prompts or [], images.pop("seed", None)
    if json_steps and not as_json:
        raise UsageError("--json-steps prints lines of JSON", hint="add --json")
    _refuse_stdout(output, as_json=as_json)
    misread.refuse(asked, store, force=force)
    if not asked and like is None:
        raise UsageError("no prompt", reason="no-prompt")
    if skip_existing and given_seed in (None, RANDOM_SEED) and like is None:
        raise UsageError("--skip-existing keeps nothing without a seed", reason="seedless")
    shown: Output[Any] = Output(
        as_json=as_json,
        quiet=quiet,
        human=lambda _: (),
        bare=lambda _: (),
        lines=True,
        previews=output != Path("-"),
        denoised=json_steps,
    )
    arrivals = _stdin(alone=len(asked) == 1) if "-" in asked else None
    request = generate_request.requested(
        like=None if like is None else made.read(like),
        prompts=[p for p in asked if p != "-"],
        stream=None if arrivals is None else _arriving(shown, arrivals, at_most=_together(images.get("batch_size", 1))),
        negative_prompt=negative_prompt,
        seed=given_seed,
        output=output,
        compare=compare,
        sheet=sheet,
        skip_existing=skip_existing,
        force=force,
        settings=settings,
        compute=compute,
        **images,
    )
    generate_request.check(request)
    opened = stores.open_store(store)
    with shown:
        if given_seed != request.seed and output is not None and (output.suffix or output == Path("-")):
            shown.note(f"seed {request.seed}")  # the file name does not contain it
        result = shown.run(generate.generate(opened, request))
    if not result.generated + result.failed + result.kept:
        raise _no_line()
    if (found := generate.problem(result)) is not None:
        raise found


def _stdin(*, alone: bool) -> Arrivals:
    """The lines of stdin. If they are the only prompts, a stream without a line is refused before anything is loaded."""
    if sys.stdin is None:  # closed
        raise _no_line()
    arrivals = Arrivals(sys.stdin)
    if alone and arrivals.are_over():
        raise _no_line()
    return arrivals


def _no_line() -> UsageError:
    return UsageError(
        "no prompt on standard input", note="blank lines and lines that begin with # are left out", reason="no-line"
    )


def _together(batch_size: int | str) -> int:
    """Lines of stdin that may share a batch."""
    from cnsctl.app.generate import MAX_BATCH

    return batch_size if isinstance(batch_size, int) else MAX_BATCH


def _refuse_stdout(output: Path | None, *, as_json: bool) -> None:
    if output != Path("-"):
        return
    if as_json:
        raise UsageError("cannot write both an image and JSON to stdout", hint="use one of -o - and --json")
    if sys.stdout.isatty():
        raise UsageError("cannot write the bytes of a PNG to the terminal", hint="add > FILE.png, or use -o FILE.png")


def _arriving(shown: Output[Any], arrivals: Arrivals, *, at_most: int) -> Iterator[list[str]]:
    """Lines of stdin as they arrive."""
    if sys.stdin.isatty():
        shown.note("prompts, one per line; Ctrl-D ends")
    while True:
        shown.rest()
        if not (arrived := arrivals.next(at_most)):
            return
        yield arrived
