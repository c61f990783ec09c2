"""`cnsctl demo`: the whole job on the built-in base model and images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnsctl.cli import options
from cnsctl.cli.output import Output
from cnsctl.cli.program import command as line
from cnsctl.settings import ComputeSettings, TrainSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cnsctl import results


@options.with_settings(settings=(TrainSettings, ["steps"]), compute=ComputeSettings)
def command(
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", readable=False, help="Folder of the store, images and sheet"),
    ] = Path("demo"),
    settings: dict[str, Any],
    compute: dict[str, Any],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train two bundled concepts and show them.

    Trains <dog>, generates it, trains <hat>, generates <dog> again, and compares the bytes of its images. Writes a store,
    images and a contact sheet. Run it again to continue where it stopped; what is done is not done again.

    Example:  cnsctl demo -o demo
    """
    from cnsctl.app.demo import EXAMPLES, demo, problem

    shown: Output[results.DemoResult] = Output(
        as_json=as_json,
        quiet=quiet,
        human=lambda r: _shown(r, EXAMPLES / "robot"),
        bare=lambda r: [r.sheet],
        lines=True,
    )
    with shown:
        result = shown.run(demo(output, settings, compute))
    if (found := problem(result)) is not None:
        raise found


def _shown(r: results.DemoResult, robot: Path) -> Iterable[str]:
    """What the demo proves, where it wrote, and three commands to try next."""
    first, second = (f"<{name}>" for name in r.concepts)
    if r.bytes_compared is not None:
        differ = f"{r.bytes_differ:,} of {r.bytes_compared:,} bytes differ"
        yield f"{first}, generated before and after {second} was trained: {differ}"
    states = ", ".join(f"<{row.name}> {'unchanged' if row.unchanged else 'changed'}" for row in r.verified)
    yield f"verify: {states}"
    yield f"contact sheet: {r.sheet}"
    yield f"images: {r.images}"
    yield f"store: {r.store}"
    yield "next:"
    here, at = Path.cwd(), ("--store", r.store)
    yield line("gen", f"a {first} wearing a {second} in the snow", *at)
    yield line("add", "robot", str(robot.relative_to(here) if robot.is_relative_to(here) else robot), *at)
    yield line("verify", *at)
