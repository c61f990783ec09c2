"""`cnsctl completion`: the completion script of a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnsctl.cli.completion import SHELLS, script

if TYPE_CHECKING:
    from pathlib import Path


def command(
    shell: Annotated[
        str | None,
        typer.Argument(metavar="|".join(SHELLS), help="The shell.  [default: by $SHELL]", show_default=False),
    ] = None,
    *,
    install: Annotated[
        bool, typer.Option("--install", help="Write the script to the user's folder of completions")
    ] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Delete the script that --install wrote")] = False,
) -> None:
    """Print or install a shell completion script.

    It completes commands, options, values, files and the names of concepts, also inside quotes. It reads the names from a
    plain file, so pressing Tab does not start Python. Configuration files are not changed: if one needs a line, the line
    is printed.

    Example:  cnsctl completion --install
    """
    from cnsctl.cli.completion_files import place_of, shell_of_user
    from cnsctl.cli.main import make_app
    from cnsctl.cli.output import out
    from cnsctl.errors import UsageError

    if install and uninstall:
        raise UsageError("--install and --uninstall do not belong together", hint="leave out one of them")
    shell = shell or shell_of_user()
    if shell not in SHELLS:
        named = f"unknown shell {shell!r}" if shell else "unknown shell: SHELL is not set"
        raise UsageError(named, hint=f"name one: cnsctl completion {'|'.join(SHELLS)}")
    top: Any = typer.main.get_command(make_app())
    text = script(shell, top.commands)
    if not install and not uninstall:
        out(text.rstrip("\n"))
        return
    place = place_of(shell)
    _refuse_foreign(place.file)
    if uninstall:
        there = place.file.exists()
        place.file.unlink(missing_ok=True)
        out(f"{'deleted' if there else 'nothing to delete:'} {place.file}")
        return
    _write(place.file, text)
    out(f"wrote {place.file}")
    if place.line is None:
        out(f"open a new {shell} to use it")
    else:
        out(f"add this line to {place.rc}, then open a new {shell}:")
        out(f"  {place.line}")


def _refuse_foreign(file: Path) -> None:
    from cnsctl.cli.completion_files import is_ours
    from cnsctl.errors import UsageError

    if not is_ours(file):
        raise UsageError(f"file already exists: {file}", note="it is not from cnsctl", hint="move it away")


def _write(file: Path, text: str) -> None:
    from cnsctl.app.output_paths import keep

    keep(file, text.encode())
