"""The entry point: answers what needs nothing at once, and hands the rest to the verbs.

Owns the list of verbs; must not know what they do.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

from cnsctl import __version__

if TYPE_CHECKING:
    import typer


def run() -> None:
    """`cnsctl`, as installed."""
    if sys.platform == "win32":
        sys.stderr.write("cnsctl: Windows is supported through WSL\n")
        sys.exit(1)
    # torch's threads (GNU OpenMP) spin while they wait for each other; with a second program on two cores that is 3 s
    # and more for a training step. Sleeping at once costs 0.32 instead of 0.19 s on a quiet machine; spinning shortly
    # 0.22 s there and 0.8 s on the busy one
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    main(sys.argv[1:])


def main(arguments: list[str]) -> NoReturn:
    """Run a command line, and leave with its exit status."""
    from cnsctl.cli import exit_status, streams

    streams.ready()
    exit_status.catch_interrupts()
    with exit_status.told(as_json="--json" in arguments):
        if arguments == ["--version"]:
            sys.stdout.write(f"cnsctl {__version__}\n")
            status = None
        else:
            status = _called(arguments)
        sys.stdout.flush()
    sys.exit(status)


def _called(arguments: list[str]) -> int | None:
    """Let typer read the arguments and call the verb; what it complains of is told as everything else is."""
    import typer

    from cnsctl.errors import UsageProblem

    usage_error = cast("type[Exception]", typer.BadParameter.__bases__[0])  # typer has no public name for it
    try:
        return make_app()(arguments, prog_name="cnsctl", standalone_mode=False)  # type: ignore[no-any-return]
    except usage_error as err:
        problem: Any = err
        if not arguments or problem.ctx is None:
            problem.show()  # the help, as an answer to nothing
            return UsageProblem.exit_status
        message = problem.format_message().rstrip(".")
        raise UsageProblem(message[:1].lower() + message[1:], hint=f"see {problem.ctx.command_path} --help") from err


def make_app() -> typer.Typer:
    """The typer application with every verb."""
    import typer

    from cnsctl.cli.exit_status import guarded
    from cnsctl.cli.verbs.add import add
    from cnsctl.cli.verbs.completion import completion
    from cnsctl.cli.verbs.demo import demo
    from cnsctl.cli.verbs.evaluate import evaluate
    from cnsctl.cli.verbs.gen import gen
    from cnsctl.cli.verbs.init import init
    from cnsctl.cli.verbs.ls import ls
    from cnsctl.cli.verbs.mv import mv
    from cnsctl.cli.verbs.rm import rm
    from cnsctl.cli.verbs.score import score
    from cnsctl.cli.verbs.show import show
    from cnsctl.cli.verbs.verify import verify

    app = typer.Typer(
        name="cnsctl",
        help=(
            "Teach a text-to-image model new things one after another, without forgetting the earlier ones.\n\n"
            "Example:  cnsctl add dog ./examples/dog && cnsctl gen '<dog> on a beach'"
        ),
        epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 partly done, 4 no such concept, 5 store locked, 6 store damaged, "
        "7 forgetting found, 8 learned but not kept, 10 no store, "
        "130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # rich would double the time of --help
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    verbs = {"init": init, "add": add, "gen": gen, "ls": ls, "show": show, "rm": rm, "mv": mv, "eval": evaluate}
    verbs |= {"verify": verify, "score": score, "demo": demo, "completion": completion}
    for name, verb in verbs.items():
        app.command(name)(guarded(verb))  # type: ignore[arg-type]
    app.callback()(_top)
    return app


def _top() -> None:
    pass


if __name__ == "__main__":
    run()
