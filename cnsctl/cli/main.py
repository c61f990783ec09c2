"""The entry point: calls the verb that the arguments name.

Owns the list of verbs; must not know what they do.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

from cnsctl import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer


OFFLINE = {"HF_HUB_OFFLINE": "1", "DIFFUSERS_DISABLE_REMOTE_CODE": "1", "TOKENIZERS_PARALLELISM": "false"}
"""Environment of the process, for diffusers and transformers."""

VERSION = (["--version"], ["-V"], ["version"])
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
        if arguments in VERSION:  # at once, without loading typer
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
    from cnsctl.errors import UsageError

    if arguments and not arguments[0].startswith("-"):
        arguments = other_words.meant(arguments, [name for names in GROUPS.values() for name in names])
    usage_error = cast("type[Exception]", typer.BadParameter.__bases__[0])  # typer does not export it
    try:
        return make_app()(arguments, prog_name="cnsctl", standalone_mode=False)  # type: ignore[no-any-return]
    except usage_error as err:
        problem: Any = err
        if not arguments or problem.ctx is None:
            problem.show()  # the help
            return UsageError.exit_status
        problem.possibilities = None  # the most similar option is in the hint
        message = problem.format_message().rstrip(".")
        hint = _advice(problem) or f"see {problem.ctx.command_path} --help"
        raise UsageError(message[:1].lower() + message[1:], hint=hint) from err


def _advice(problem: Any) -> str | None:
    """What to write instead of an option that does not exist, or of a value that is not a number."""
    from cnsctl.cli import other_words

    context = problem.ctx
    if (option := getattr(problem, "option_name", None)) is not None:
        if context.parent is None:
            return "give options after the command: cnsctl COMMAND --help lists them"
        known = [name for p in context.command.params for name in (*p.opts, *([p.metavar] if p.metavar else []))]
        return other_words.option_hint(option, [name.rstrip(".") for name in known])
    given = re.match(r"'(.*)' is not a valid (?:int|float|integer|number)", getattr(problem, "message", ""))
    return other_words.value_hint(given[1]) if given is not None else None


GROUPS: Mapping[str, tuple[str, ...]] = {
    "Train": ("add", "score"),
    "Use": ("gen", "demo"),
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


def make_app() -> typer.Typer:
    """The typer application with every verb."""
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
        for name in names:
            module = f"{name}_" if keyword.iskeyword(name) else name
            command = importlib.import_module(f"cnsctl.cli.verbs.{module}").command
            listed = app.command(name, cls=GroupedCommand, rich_help_panel=title, help=help_of(command))
            listed(guarded(command, name))

    def top(version: bool = typer.Option(False, "--version", help="Print the version and exit")) -> None:
        if version:  # with other arguments; `main` handles it alone
            sys.stdout.write(f"cnsctl {__version__}\n")
            raise typer.Exit

    app.callback()(top)
    return app


if __name__ == "__main__":
    run()
