"""The completion script of zsh.

Owns this script; must not know where verbs come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.cli.completion import STORE, Kind, Verb, quoted, valued, values

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMES = r"""
_cnsctl_names() {
    local file
    names=()
    if [[ -z $unfinished ]]; then
        [[ -r $store/names ]] && names=(${(f)"$(<$store/names)"})
        return
    fi
    for file in $store/work/*/*(N); do
        [[ ${file:t} == lock ]] || names+=(${file:h:t})
    done
    names=(${(u)names})
}

# names that the line does not have already; also after < or @
_cnsctl_concept() {
    local -a names
    _cnsctl_names
    names=(${names:|given})
    if [[ $PREFIX == \<* ]]; then
        compset -P '<'
        compadd -S '>' -a names
    else
        [[ $PREFIX == @* ]] && compset -P @
        compadd -a names
    fi
}

_cnsctl_prompt() {
    local -a names
    _cnsctl_names
    if [[ $PREFIX == *\<* && ${PREFIX##*\<} != *\>* ]]; then
        compset -P '*<'
        compadd -S '>' -a names
    elif [[ $PREFIX == @* || $PREFIX == *' '@* ]]; then
        compset -P '*@'
        compadd -a names
    elif [[ -z $PREFIX || $PREFIX == *' ' ]]; then
        compset -P '*'
        if [[ -n $QIPREFIX ]]; then
            compadd -P '<' -S '>' -a names
        else
            compadd -P @ -a names
        fi
    fi
}
"""


def script(verbs: Sequence[Verb]) -> str:
    """The script, for these verbs."""
    listed = "\n".join(f"            {quoted(f'{v.name}:{v.help}')}" for v in verbs)
    return f"""#compdef cnsctl
# zsh completion for cnsctl; made by: cnsctl completion zsh
{_NAMES.lstrip()}
_cnsctl() {{
    local verb="" flag="" store="" unfinished="" w
    local -a given flags verbs
    for w in "${{(@Q)words[2,CURRENT-1]}}"; do
        if [[ -n $flag ]]; then
            [[ $flag == --store ]] && store="$w"
            flag=""
            continue
        fi
        case "$w" in
            --store=*) store="${{w#--store=}}" ;;
            --unfinished) unfinished=1 ;;
            {"|".join(valued(verbs))}) flag="$w" ;;
            -?*) ;;
            *) if [[ -z $verb ]]; then verb="$w"; else given+=("${{${{w#[<@]}}%>}}"); fi ;;
        esac
    done
{STORE.strip(chr(10))}
    if [[ -z $flag && $PREFIX == --*=* ]]; then
        flag="${{PREFIX%%=*}}"
        compset -P '*='
    fi
    if [[ -n $flag ]]; then
        case "$verb:$flag" in
{_values(verbs)}
        esac
        return
    fi
    if [[ $PREFIX == -* && -z $QIPREFIX ]]; then
        case "$verb" in
            "") flags=(--help --version --store --json --quiet) ;;
{_flags(verbs)}
        esac
        _describe -o 'option' flags
        return
    fi
    if [[ -z $verb ]]; then
        verbs=(
{listed}
        )
        _describe 'verb' verbs
        return
    fi
    case "$verb:$#given" in
{_arguments(verbs)}
    esac
}}

if [[ ${{funcstack[1]:-}} == _cnsctl ]]; then
    _cnsctl "$@"
elif (( $+functions[compdef] )); then
    compdef _cnsctl cnsctl
fi
"""


_ACTIONS = {
    Kind.FOLDER: "_files -/",
    Kind.MODEL: "_files -g '*.safetensors(-.)'",
    Kind.FILE: "_files",
    Kind.TEXT: ":",
    Kind.CONCEPT: "_cnsctl_concept",
    Kind.PROMPT: "_cnsctl_prompt",
}


def _values(verbs: Sequence[Verb]) -> str:
    return "\n".join(
        f"            {'|'.join(patterns)}) {_action(kind, choices)} ;;"
        for (kind, choices), patterns in values(verbs).items()
    )


def _action(kind: Kind, choices: Sequence[str]) -> str:
    return f"compadd -- {' '.join(choices)}" if choices else _ACTIONS[kind]


def _flags(verbs: Sequence[Verb]) -> str:
    return "\n".join(
        f"            {v.name}) flags=({' '.join(quoted(f'{n}:{f.help}') for f in v.flags for n in f.names)}) ;;"
        for v in verbs
    )


def _arguments(verbs: Sequence[Verb]) -> str:
    rows = []
    for verb in verbs:
        for at, kind in enumerate(verb.arguments):
            is_last = verb.repeats and at == len(verb.arguments) - 1
            count = "*" if is_last else at
            rows.append(
                f"        {verb.name}:{count}) {_action(kind, verb.choices if kind is Kind.CHOICES else ())} ;;"
            )
    return "\n".join(rows)
