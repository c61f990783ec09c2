"""`cnsctl completion`: the shell's completion script."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Which shell.")],
) -> None:
    """Print the completion script of a shell.

    It reads concepts' names from a plain file, so that Tab starts no Python.

    \b
    Example:  cnsctl completion bash > ~/.local/share/bash-completion/completions/cnsctl
    """  # noqa: D301  \b keeps typer from breaking the line
    from cnsctl.cli.completion import script
    from cnsctl.cli.output import out

    top: Any = context.find_root().command
    out(script(shell, top.commands).rstrip("\n"))
