"""`cnsctl demo`: the whole job on the built-in base and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnsctl.cli import options
from cnsctl.cli.output import View


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", readable=False, help="Store, pictures and sheet go here.")
    ] = Path("demo"),
    steps: options.LearnSteps = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn two bundled concepts, draw both, write a contact sheet.

    Called again, it goes on where it stopped, and learns nothing twice.

    Example:  cnsctl demo -o demo
    """
    from cnsctl.app.demo import demo as run
    from cnsctl.app.session import Compute

    with View(
        as_json=as_json,
        quiet=quiet,
        human=lambda data: [f"contact sheet: {data['sheet']}", f"store: {data['store']}"],
        bare=lambda data: [data["sheet"]],
        lines=True,
    ) as view:
        view.show(run(output, options.given(steps=steps), Compute(device=device, dtype=dtype)))
