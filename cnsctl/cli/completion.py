"""What completes a command line: the verbs, their options, and what each value and argument may be.

What an option or argument completes to follows from its metavar: `a|b|c` are choices, `CONCEPT` is a name in the store,
`NAME` and `NEW` are names that do not exist yet, `DIR` is a folder, `DIR|FILE` a folder or a checkpoint, `FILE`, `PATH` and
`IMAGES` are files.

The scripts read the plain file `names` of a store, so pressing Tab does not start Python. `completions/` in the
repository contains them; a test compares the two.

Owns this model; must not know shells.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHELLS = ("bash", "zsh", "fish")


class Kind(StrEnum):
    """What a value or an argument may be."""

    CHOICES = "choices"
    CONCEPT = "concept"
    PROMPT = "prompt"
    FOLDER = "folder"
    MODEL = "model"
    """A folder, or a checkpoint file."""
    FILE = "file"
    TEXT = "text"
    """Nothing can be suggested: a new name, a number, words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """An option of a verb."""

    names: tuple[str, ...]
    """Such as `-o`, `--output`."""
    help: str
    kind: Kind | None
    """Of its value; None for a switch."""
    choices: tuple[str, ...]

    @property
    def long(self) -> str:
        return next(name for name in self.names if name.startswith("--"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A verb, and what its arguments complete to."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    arguments: tuple[Kind, ...]
    """In order."""
    choices: tuple[str, ...]
    """Of an argument."""
    repeats: bool
    """The last argument can be given several times."""


def script(shell: str, commands: Mapping[str, Any]) -> str:
    """The script of one shell, for these verbs by name (typer's commands)."""
    from cnsctl.cli import completion_bash, completion_fish, completion_zsh

    make = {"bash": completion_bash.script, "zsh": completion_zsh.script, "fish": completion_fish.script}[shell]
    return make([_verb(name, command) for name, command in commands.items()])


def _verb(name: str, command: Any) -> Verb:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    metavars = [(p.metavar or "").strip("[]").rstrip(".") for p in arguments]
    return Verb(
        name=name,
        help=(command.help or "").strip().splitlines()[0],
        flags=tuple(_flag(p) for p in command.params if p.param_type_name == "option"),
        arguments=tuple(_kind(metavar) for metavar in metavars),
        choices=next((choices for metavar in metavars if (choices := _choices(metavar))), ()),
        repeats=any(p.nargs != 1 for p in arguments),
    )


def _flag(option: Any) -> Flag:
    metavar = option.metavar or ""
    return Flag(
        names=tuple(option.opts),
        help=(option.help or "").split(".  [")[0].split(". ")[0],
        kind=None if option.is_flag else _kind(metavar),
        choices=_choices(metavar),
    )


def _kind(metavar: str) -> Kind:
    words = set(metavar.split("|"))
    if _choices(metavar):
        return Kind.CHOICES
    if "DIR" in words:
        return Kind.MODEL if "FILE" in words else Kind.FOLDER
    known = {"CONCEPT": Kind.CONCEPT, "PROMPT": Kind.PROMPT, "FILE": Kind.FILE, "PATH": Kind.FILE, "IMAGES": Kind.FILE}
    return known.get(metavar, Kind.TEXT)


def _choices(metavar: str) -> tuple[str, ...]:
    return tuple(metavar.split("|")) if "|" in metavar and not metavar.isupper() else ()


def values(verbs: Sequence[Verb]) -> dict[tuple[Kind, tuple[str, ...]], list[str]]:
    """Patterns `VERB:OPTION` of options with a value, by what completes it; `*:OPTION` if it is the same for every verb.

    Options that complete to text are left out: nothing completes them.
    """
    kinds: dict[str, dict[str, tuple[Kind, tuple[str, ...]]]] = {}
    for verb in verbs:
        for flag in verb.flags:
            if flag.kind is not None:
                for name in flag.names:
                    kinds.setdefault(name, {})[verb.name] = (flag.kind, flag.choices)
    found: dict[tuple[Kind, tuple[str, ...]], list[str]] = {}
    for name, by_verb in kinds.items():
        for kind in dict.fromkeys(by_verb.values()):
            whose = ["*"] if len(set(by_verb.values())) == 1 else [v for v, k in by_verb.items() if k == kind]
            found.setdefault(kind, []).extend(f"{verb}:{name}" for verb in whose)
    return {kind: patterns for kind, patterns in found.items() if kind[0] is not Kind.TEXT}


def valued(verbs: Sequence[Verb]) -> list[str]:
    """The options that take a value; an option takes one for every verb or for none."""
    return sorted({name for verb in verbs for flag in verb.flags if flag.kind is not None for name in flag.names})


STORE = r"""
    [[ $store == "~/"* ]] && store="$HOME/${store:2}"
    if [[ -z $store ]]; then
        store="${CNSCTL_STORE:-}"
    fi
    if [[ -z $store && $OSTYPE == darwin* && -z ${XDG_DATA_HOME:-} ]]; then
        store="$HOME/Library/Application Support/cnsctl"
    fi
    if [[ -z $store ]]; then
        store="${XDG_DATA_HOME:-$HOME/.local/share}/cnsctl"
    fi
"""
"""In bash and zsh: the folder of the store, as `cnsctl` finds it."""


def quoted(text: str) -> str:
    """A word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"
