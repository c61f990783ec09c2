"""Completion scripts for bash, zsh and fish, made from the verbs themselves.

The scripts read the plain file `names` that a store keeps, so that Tab starts no Python. `completions/` in the
repository holds their output; a test holds the two equal.

Owns the scripts; must not know stores beyond that file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnsctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMED = ("show", "rm", "mv", "eval", "verify")
"""Verbs whose arguments are concepts."""

CHOICES = {
    "--device": "auto cuda mps cpu",
    "--dtype": "auto fp32 bf16 fp16",
    "--mode": "prompt token merged",
    "--policy": "overlap prefer-free exclusive",
    "--sampler": "base dpm++ dpm++sde euler euler-a ddim ddpm heun unipc",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    name: str
    help: str
    flags: tuple[tuple[str, str, bool], ...]
    """Long flag, its help, whether it takes a value."""


def script(shell: str, commands: Mapping[str, Any]) -> str:
    """The script of one shell, for these verbs by name (typer's commands)."""
    makers = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    if shell not in makers:
        raise UsageError(f"no completion for {shell!r}", hint=f"use one of: {', '.join(makers)}")
    return makers[shell](_verbs(commands))


def _verbs(commands: Mapping[str, Any]) -> list[Verb]:
    return [
        Verb(
            name=name,
            help=(command.help or "").strip().splitlines()[0].rstrip("."),
            flags=tuple(
                (option, (p.help or "").split(". ")[0].rstrip("."), not p.is_flag)
                for p in command.params
                if hasattr(p, "is_flag")
                for option in p.opts
                if option.startswith("--")
            ),
        )
        for name, command in commands.items()
    ]


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
    flags = "\n".join(f'        {v.name}) flags="{" ".join(f for f, _, _ in v.flags)} --help" ;;' for v in verbs)
    choices = "\n".join(
        f'        {flag}) COMPREPLY=($(compgen -W "{words}" -- "$cur")); return ;;' for flag, words in CHOICES.items()
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
{choices}
        --store|--base|-o|--output) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
    esac
    case "$verb" in
{flags}
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
        return
    fi
    case "$verb" in
        {"|".join(NAMED)}) COMPREPLY=($(compgen -W "$(_cnsctl_names)" -- "$cur")) ;;
        gen) COMPREPLY=($(compgen -P @ -W "$(_cnsctl_names)" -- "${{cur#@}}")) ;;
        completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")) ;;
        *) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    esac
}}
complete -F _cnsctl cnsctl
"""


def _zsh(verbs: list[Verb]) -> str:
    listed = "\n".join(f"        {_quoted(f'{v.name}:{v.help}')}" for v in verbs)
    flags = "\n".join(
        f"        {v.name}) flags=({' '.join(_quoted(f'{f}:{h}') for f, h, _ in v.flags)}) ;;" for v in verbs
    )
    choices = "\n".join(f"        {flag}) compadd -- {words}; return ;;" for flag, words in CHOICES.items())
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
{choices}
        --store|--base|-o|--output) _files; return ;;
    esac
    case "${{words[2]}}" in
{flags}
    esac
    if [[ ${{words[CURRENT]}} == -* ]]; then
        _describe 'option' flags
        return
    fi
    case "${{words[2]}}" in
        {"|".join(NAMED)}) names=(${{(f)"$(_cnsctl_names)"}}); compadd -a names ;;
        gen) names=(${{(f)"$(_cnsctl_names)"}}); compadd -P @ -a names ;;
        completion) compadd bash zsh fish ;;
        *) _files ;;
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
        lines.append(f"complete -c cnsctl -n __fish_use_subcommand -a {v.name} -d {_quoted(v.help)}")
        for flag, help_, takes in v.flags:
            values = f" -x -a {_quoted(CHOICES[flag])}" if flag in CHOICES else " -r" if takes else ""
            seen = f"'__fish_seen_subcommand_from {v.name}'"
            lines.append(f"complete -c cnsctl -n {seen} -l {flag[2:]}{values} -d {_quoted(help_)}")
    lines += [
        f"complete -c cnsctl -n '__fish_seen_subcommand_from {' '.join(NAMED)}' -a '(__cnsctl_names)'",
        "complete -c cnsctl -n '__fish_seen_subcommand_from gen' -a '@(__cnsctl_names)'",
        "complete -c cnsctl -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'",
        "complete -c cnsctl -n '__fish_seen_subcommand_from add score init demo' -F",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
