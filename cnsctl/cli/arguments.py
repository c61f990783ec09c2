"""A command line as typer reads it: options that are written before the command, and what was wrong with a line.

Owns the step between the shell's words and typer; must not know what commands do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cnsctl.cli import other_words

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

OF_THE_PROGRAM = ("-h", "--help", "--version")
"""Options that need no command."""


def command_first(words: Sequence[str], commands: Mapping[str, Any]) -> list[str]:
    """`--store X -q ls` as `ls --store X -q`; the name of a command is replaced by its name here.

    Args:
        words: the line, without the program.
        commands: by name.

    Raises:
        UsageError: a word is there for a command, and is not one.
    """
    valued = {name for command in commands.values() for p in options_of(command) if not p.is_flag for name in p.opts}
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in valued else 1
    before, rest = list(words[:at]), words[at:]
    if asked := [word for word in before if word in OF_THE_PROGRAM]:
        return asked[:1]
    if not rest:
        return before
    verb, *arguments = other_words.meant(rest, list(commands))
    return [verb, *before, *arguments]


def options_of(command: Any) -> list[Any]:
    """The options of a command, without its arguments."""
    return [p for p in command.params if p.param_type_name == "option"]


def problem_of(problem: Any, words: Sequence[str], commands: Mapping[str, Any]) -> tuple[str, str]:
    """What is wrong with a line, and a hint, in the words of this program.

    Args:
        problem: typer's exception.
        words: the line, the command first.
        commands: by name.
    """
    problem.possibilities = None  # the most similar option is in the hint
    message = problem.format_message().rstrip(".")
    option = getattr(problem, "option_name", None)
    command = commands.get(words[0]) if words else None
    if command is None:
        return "no command", "cnsctl --help lists the commands"
    seen = f"see cnsctl {words[0]} --help"
    if option is not None and "requires an argument" in message:
        metavar = next((p.metavar or p.type.name.upper() for p in options_of(command) if option in p.opts), "VALUE")
        return f"{option} needs a value", f"write {option} {metavar}"
    if option is not None:
        return _lowered(message), _similar(option, command.params) or seen
    if (given := re.match(r"[Gg]ot unexpected extra arguments?(?:\(s\))? \((.*)\)", message)) is not None:
        what = f"{words[0]} does not take {given[1]!r}"
        return what, other_words.extra_hint(words[0], given[1]) or seen
    given = re.match(r"'(.*)' is not a valid (?:int|float|integer|number)", getattr(problem, "message", ""))
    hint = None if given is None else other_words.value_hint(given[1])
    message = re.sub(r"is not a valid (?:int|integer)\b", "is not a whole number", message)
    return _lowered(re.sub(r"is not a valid (?:float|number)\b", "is not a number", message)), hint or seen


def _similar(option: str, params: Sequence[Any]) -> str | None:
    return other_words.option_hint(option, _names(params))


def _names(params: Sequence[Any]) -> Collection[str]:
    """The options of a command, and the names of its arguments."""
    return [name.rstrip(".") for p in params for name in (*p.opts, *([p.metavar] if p.metavar else []))]


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
