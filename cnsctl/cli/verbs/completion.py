"""`cnsctl completion`: the shell's completion script."""

from __future__ import annotations

from typing import Annotated

import typer


def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Which shell.")],
) -> None:
    """Print a completion script; it reads names from a plain file, so that Tab starts no Python.

    Example:  cnsctl completion bash > ~/.local/share/bash-completion/completions/cnsctl
    """
    import sys

    from cnsctl.cli.completion import script

    sys.stdout.write(script(shell))
