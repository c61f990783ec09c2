"""`cnsctl completion`: the shell's completion script."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Which shell.")],
) -> None:
    """Print a completion script; it reads names from a plain file, so that Tab starts no Python.

    Example:  cnsctl completion bash > ~/.local/share/bash-completion/completions/cnsctl
    """
    from cnsctl.cli.completion import script
    from cnsctl.cli.render import out

    top: Any = context.find_root().command
    out(script(shell, top.commands).rstrip("\n"))
