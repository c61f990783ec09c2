"""The entry point: calls the verb that the arguments name.

Owns the list of verbs; must not know what they do.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

from cnsctl import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import typer


OFFLINE = {"HF_HUB_OFFLINE": "1", "DIFFUSERS_DISABLE_REMOTE_CODE": "1", "TOKENIZERS_PARALLELISM": "false"}
"""Environment of the process, for diffusers and transformers."""

VERSION = (["--version"], ["-V"], ["-v"], ["version"])
"""Command lines that print the version."""

DOWNLOADING = {"init", "base"}
"""Verbs that may use the network: for a model that the user names by its hub id, after a question."""


def run() -> None:
    """`cnsctl`, as installed."""
    if sys.flags.optimize > 1 and os.environ.get("PYTHONOPTIMIZE", "1") != "1":  # transformers reads docstrings
        os.environ["PYTHONOPTIMIZE"] = "1"
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  this very program
    # the library passes local_files_only; here, in a process of our own, the network is also off for everything else
    for name, value in OFFLINE.items():
        if name != "HF_HUB_OFFLINE" or not set(sys.argv[1:]) & DOWNLOADING:
            os.environ.setdefault(name, value)
    if sys.platform == "win32":
        sys.stderr.write("cnsctl: Windows is supported through WSL\n")
        sys.exit(1)
    # torch's threads (GNU OpenMP) spin while they wait for each other: beside a second program on two cores, a training
    # step takes 3 s and more. Without spinning it takes 0.32 instead of 0.19 s on a quiet machine; with a short spin,
    # 0.22 s on a quiet machine and 0.8 s on a busy one
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if _is_helper():
        _main_without_output()
    main(sys.argv[1:])


def _is_helper() -> bool:
    """Whether a launcher has started this process beside the main process, which alone prints."""
    from cnsctl.app.processes import is_main

    return not is_main()


def _main_without_output() -> NoReturn:
    """Print nothing but the error of a process that fails."""
    import io

    shown, kept = sys.stderr, io.StringIO()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123  a device
        sys.stdout, sys.stderr = nowhere, kept
        try:
            main(sys.argv[1:])
        except SystemExit as leave:
            if leave.code:
                shown.write(kept.getvalue())
            raise
        finally:
            sys.stdout, sys.stderr = sys.__stdout__, shown


def main(arguments: list[str]) -> NoReturn:
    """Run a command line, and exit with its status."""
    from cnsctl.cli import exit_status, streams
    from cnsctl.errors import UsageError

    streams.ready()
    exit_status.catch_interrupts()
    with exit_status.reported(as_json="--json" in arguments):
        if any("\0" in argument for argument in arguments):
            raise UsageError("an argument contains a NUL character", hint="remove it")
        if arguments in VERSION:  # alone: at once, without loading typer
            sys.stdout.write(f"cnsctl {__version__}\n")
            status = None
        else:
            status = _called(arguments)
        sys.stdout.flush()
    sys.exit(status)


def _called(arguments: list[str]) -> int | None:
    """Let typer read the arguments and call the verb; its errors are reported like all others."""
    import typer

    from cnsctl.cli import other_words
    from cnsctl.cli.arguments import command_first, problem_of
    from cnsctl.errors import UsageError

    verbs = [name for names in GROUPS.values() for name in names]
    if arguments and not arguments[0].startswith("-"):
        arguments = other_words.meant(arguments, verbs)
        verbs = arguments[:1] if arguments[0] in verbs else verbs  # the others take half as long as `ls`
    program: Any = typer.main.get_command(make_app(verbs))
    if (arguments := command_first(arguments, program.commands)) in VERSION:
        sys.stdout.write(f"cnsctl {__version__}\n")
        return None
    usage_error = cast("type[Exception]", typer.BadParameter.__bases__[0])  # typer does not export it
    try:
        return program.main(arguments, prog_name="cnsctl", standalone_mode=False)  # type: ignore[no-any-return]
    except usage_error as err:
        problem: Any = err
        if not arguments:
            problem.show()  # the help
            return UsageError.exit_status
        what, hint = problem_of(problem, arguments, program.commands)
        raise UsageError(what, hint=hint) from err


GROUPS: Mapping[str, tuple[str, ...]] = {
    "Train": ("add", "score"),
    "Use": ("gen", "info", "demo"),
    "Inspect": ("ls", "show", "gallery", "verify", "eval", "log"),
    "Exchange": ("export", "import"),
    "Maintain": (
        "init",
        "base",
        "mv",
        "rm",
        "undo",
        "check",
        "gc",
        "backup",
        "restore",
        "migrate",
        "doctor",
        "completion",
    ),
}
"""The verbs, each in `cli/verbs/`, by the headings of the help."""


def make_app(verbs: Collection[str] | None = None) -> typer.Typer:
    """The typer application with every verb, or with some."""
    import importlib
    import keyword

    import typer

    from cnsctl.cli.exit_status import TABLE, guarded
    from cnsctl.cli.help import GroupedCommand, GroupedCommands, help_of

    app = typer.Typer(
        name="cnsctl",
        cls=GroupedCommands,
        help=(
            "Teach a text-to-image diffusion model new concepts, without forgetting earlier ones.\n\n"
            "Example:  cnsctl add dog ./examples/dog && cnsctl gen '<dog> on a beach'"
        ),
        epilog="Exit status: " + ", ".join(f"{status} {meaning}" for status, meaning in TABLE.items()) + ".",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # rich would double the time of --help
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for title, names in GROUPS.items():
        for name in names if verbs is None else [name for name in names if name in verbs]:
            module = f"{name}_" if keyword.iskeyword(name) else name
            command = importlib.import_module(f"cnsctl.cli.verbs.{module}").command
            listed = app.command(name, cls=GroupedCommand, rich_help_panel=title, help=help_of(command))
            listed(guarded(command, name))

    def top(version: bool = typer.Option(False, "--version", help="Print the version and exit")) -> None:
        """For the help: `_called` prints the version."""

    app.callback()(top)
    return app


if __name__ == "__main__":
    run()
