"""`cnsctl completion`: the completion script of a shell."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cnsctl.cli.completion import SHELLS, script


def command(
    shell: Annotated[str, typer.Argument(metavar="|".join(SHELLS), help="The shell")],
) -> None:
    """Print a shell completion script.

    It reads the names of concepts from a plain file, so pressing Tab does not start Python.

    \b
    Example:  cnsctl completion bash > ~/.local/share/bash-completion/completions/cnsctl
    """  # noqa: D301  \b keeps typer from breaking the line
    from cnsctl.cli.main import make_app
    from cnsctl.cli.output import out

    top: Any = typer.main.get_command(make_app())
    out(script(shell, top.commands).rstrip("\n"))
