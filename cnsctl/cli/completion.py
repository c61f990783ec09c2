"""Completion scripts for bash, zsh and fish, generated from the verbs.

The scripts read the plain file `names` of a store, so pressing Tab does not start Python. `completions/` in the
repository contains their output; a test compares the two.

What an option or argument completes to follows from its metavar: `a|b|c` are choices, `CONCEPT` is a name in the store,
`DIR`, `FILE` and `PATH` are files, also among other things: `DIR|HUB_ID`.

Owns the scripts; must not know stores beyond that file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """An option of a verb."""

    names: tuple[str, ...]
    """Such as `-o`, `--output`."""
    help: str
    is_switch: bool
    """Takes no value."""
    choices: tuple[str, ...]
    is_path: bool

    @property
    def long(self) -> str:
        return next(name for name in self.names if name.startswith("--"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A verb, and what its arguments complete to."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    choices: tuple[str, ...]
    takes_concepts: bool
    takes_prompts: bool
    takes_files: bool


def script(shell: str, commands: Mapping[str, Any]) -> str:
    """The script of one shell, for these verbs by name (typer's commands)."""
    if shell not in SHELLS:
        raise UsageError(f"unknown shell {shell!r}", hint=f"use one of: {', '.join(SHELLS)}")
    make = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return make([_verb(name, command) for name, command in commands.items()])


def _verb(name: str, command: Any) -> Verb:
    options = [p for p in command.params if p.param_type_name == "option"]
    metavars = " ".join(p.metavar or "" for p in command.params if p.param_type_name == "argument")
    return Verb(
        name=name,
        help=(command.help or "").strip().splitlines()[0],
        flags=tuple(_flag(p) for p in options),
        choices=_choices(metavars),
        takes_concepts="CONCEPT" in metavars,
        takes_prompts="PROMPT" in metavars,
        takes_files=any(word in metavars for word in ("IMAGES", "DIR", "FILE")),
    )


def _flag(option: Any) -> Flag:
    metavar = option.metavar or ""
    return Flag(
        names=tuple(option.opts),
        help=(option.help or "").split(".  [")[0].split(". ")[0],
        is_switch=option.is_flag,
        choices=_choices(metavar),
        is_path=bool({"DIR", "FILE", "PATH"} & set(metavar.split("|"))),
    )


def _choices(metavar: str) -> tuple[str, ...]:
    return tuple(metavar.split("|")) if "|" in metavar and not metavar.isupper() else ()


def _values(verbs: list[Verb]) -> tuple[dict[str, str], str]:
    """Choices by flag, and a pattern of the flags that take a path. A flag means the same for every verb."""
    flags = [flag for verb in verbs for flag in verb.flags]
    paths = dict.fromkeys(name for flag in flags if flag.is_path for name in flag.names)
    return {flag.long: " ".join(flag.choices) for flag in flags if flag.choices}, "|".join(paths)


def _pattern(verbs: list[Verb], takes: str) -> str:
    """The verbs that take something, as a pattern of `case`."""
    return "|".join(verb.name for verb in verbs if getattr(verb, takes))


_NAMES = r"""
    local store="" i
    for ((i = 1; i < ${#WORDS[@]}; i++)); do
        case "${WORDS[i]}" in
            --store) store="${WORDS[i+1]}"; [[ $store == "=" ]] && store="${WORDS[i+2]}" ;;
            --store=*) store="${WORDS[i]#--store=}" ;;
        esac
    done
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
    [[ -r $store/names ]] && cat -- "$store/names"
"""


def _bash(verbs: list[Verb]) -> str:
    choices, paths = _values(verbs)
    flags = "\n".join(f'        {v.name}) flags="{" ".join(f.long for f in v.flags)} --help" ;;' for v in verbs)
    values = "\n".join(
        f'        {flag}) COMPREPLY=($(compgen -W "{words}" -- "$cur")); return ;;' for flag, words in choices.items()
    )
    chosen = "\n".join(
        f'        {v.name}) COMPREPLY=($(compgen -W "{" ".join(v.choices)}" -- "$cur")) ;;' for v in verbs if v.choices
    )
    return f"""# bash completion for cnsctl; made by: cnsctl completion bash
_cnsctl_names() {{
    local WORDS=("${{COMP_WORDS[@]}}"){_NAMES}}}

_cnsctl() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" verb="${{COMP_WORDS[1]}}" flags=""
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "{" ".join(v.name for v in verbs)} --help --version" -- "$cur"))
        return
    fi
    case "$prev" in
{values}
        {paths}) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
    esac
    case "$verb" in
{flags}
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
        return
    fi
    case "$verb" in
        {_pattern(verbs, "takes_concepts")}) COMPREPLY=($(compgen -W "$(_cnsctl_names)" -- "$cur")) ;;
        {_pattern(verbs, "takes_prompts")}) COMPREPLY=($(compgen -P @ -W "$(_cnsctl_names)" -- "${{cur#@}}")) ;;
{chosen}
        {_pattern(verbs, "takes_files")}) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    esac
}}
complete -F _cnsctl cnsctl
"""


def _zsh(verbs: list[Verb]) -> str:
    choices, paths = _values(verbs)
    listed = "\n".join(f"        {_quoted(f'{v.name}:{v.help}')}" for v in verbs)
    flags = "\n".join(
        f"        {v.name}) flags=({' '.join(_quoted(f'{f.long}:{f.help}') for f in v.flags)}) ;;" for v in verbs
    )
    values = "\n".join(f"        {flag}) compadd -- {words}; return ;;" for flag, words in choices.items())
    chosen = "\n".join(f"        {v.name}) compadd {' '.join(v.choices)} ;;" for v in verbs if v.choices)
    return f"""#compdef cnsctl
# zsh completion for cnsctl; made by: cnsctl completion zsh
_cnsctl_names() {{
    setopt localoptions ksharrays
    local -a WORDS=("${{words[@]}}"){_NAMES}}}

_cnsctl() {{
    local -a verbs flags names
    verbs=(
{listed}
    )
    if (( CURRENT == 2 )); then
        _describe 'verb' verbs
        return
    fi
    case "${{words[CURRENT-1]}}" in
{values}
        {paths}) _files; return ;;
    esac
    case "${{words[2]}}" in
{flags}
    esac
    if [[ ${{words[CURRENT]}} == -* ]]; then
        _describe 'option' flags
        return
    fi
    case "${{words[2]}}" in
        {_pattern(verbs, "takes_concepts")}) names=(${{(f)"$(_cnsctl_names)"}}); compadd -a names ;;
        {_pattern(verbs, "takes_prompts")}) names=(${{(f)"$(_cnsctl_names)"}}); compadd -P @ -a names ;;
{chosen}
        {_pattern(verbs, "takes_files")}) _files ;;
    esac
}}

if [[ ${{funcstack[1]:-}} == _cnsctl ]]; then
    _cnsctl "$@"
elif (( $+functions[compdef] )); then
    compdef _cnsctl cnsctl
fi
"""


def _fish(verbs: list[Verb]) -> str:
    lines = [
        "# fish completion for cnsctl; made by: cnsctl completion fish",
        "function __cnsctl_names",
        "    set -l words (commandline -opc)",
        "    set -l store $CNSCTL_STORE",
        "    if set -l at (contains -i -- --store $words)",
        "        set store $words[(math $at + 1)]",
        "    end",
        "    if set -l joined (string match -- '--store=*' $words)",
        "        set store (string replace -- '--store=' '' $joined[1])",
        "    end",
        "    set store (string replace -r -- '^~/' \"$HOME/\" $store)",
        '    if test -z "$store"; and test (uname) = Darwin; and test -z "$XDG_DATA_HOME"',
        '        set store "$HOME/Library/Application Support/cnsctl"',
        "    end",
        '    if test -z "$store"',
        '        set -l data "$XDG_DATA_HOME"',
        '        test -n "$data"; or set data "$HOME/.local/share"',
        '        set store "$data/cnsctl"',
        "    end",
        '    test -r "$store/names"; and cat -- "$store/names"',
        "end",
        "complete -c cnsctl -f",
    ]
    for v in verbs:
        seen = f"'__fish_seen_subcommand_from {v.name}'"
        lines.append(f"complete -c cnsctl -n __fish_use_subcommand -a {v.name} -d {_quoted(v.help)}")
        for flag in v.flags:
            values = "" if flag.is_switch else " -r -F" if flag.is_path else " -x"
            values += f" -a {_quoted(' '.join(flag.choices))}" if flag.choices else ""
            lines.append(f"complete -c cnsctl -n {seen} -l {flag.long[2:]}{values} -d {_quoted(flag.help)}")
        words = (
            "@(__cnsctl_names)" if v.takes_prompts else "(__cnsctl_names)" if v.takes_concepts else " ".join(v.choices)
        )
        if words or v.takes_files:
            lines.append(f"complete -c cnsctl -n {seen} {f'-a {_quoted(words)}' if words else '-F'}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
