"""The completion script of bash.

It splits the line itself: bash breaks words at `=`, `@` and `<`, and keeps quotes in them.

Owns this script; must not know where verbs come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.cli.completion import STORE, Kind, Verb, valued, values

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPLIT = r"""
# words: those before the cursor; word: the one at the cursor, both without quotes; quote: the open quote; redirect: after < or >
_cnsctl_split() {
    local line="${COMP_LINE:0:COMP_POINT}" i c begun=""
    words=() word="" quote="" redirect=""
    for ((i = 0; i < ${#line}; i++)); do
        c="${line:i:1}"
        if [[ -n $quote && $c == "$quote" ]]; then
            quote=""
        elif [[ $quote == "'" ]]; then
            word+="$c"
        elif [[ $c == "\\" ]]; then
            i=$((i + 1)) begun=1 word+="${line:i:1}"
        elif [[ -n $quote ]]; then
            word+="$c"
        elif [[ $c == "'" || $c == '"' ]]; then
            quote="$c" begun=1
        elif [[ $c == [[:space:]] || $c == "<" || $c == ">" ]]; then
            if [[ -n $begun && -z $redirect ]]; then
                words+=("$word")
            fi
            [[ -n $begun ]] && redirect=""
            word="" begun=""
            [[ $c == [[:space:]] ]] || redirect=1
        else
            word+="$c" begun=1
        fi
    done
}
"""

_NAMES = r"""
_cnsctl_names() {
    local name file
    if [[ -z $unfinished ]]; then
        [[ -r $store/names ]] && cat -- "$store/names"
        return
    fi
    for name in "$store"/work/*/; do
        for file in "$name"*; do
            [[ -e $file && ${file##*/} != lock ]] || continue
            name="${name%/}"
            printf '%s\n' "${name##*/}"
            break
        done
    done
}
"""

_REPLY = r"""
_cnsctl_reply() {
    local IFS=$'\n' found
    case "$1" in
        words) shift; found=($(compgen -W "$*" -- "$cur")) ;;
        folder) compopt -o filenames 2>/dev/null; found=($(compgen -d -- "$cur")) ;;
        model) compopt -o filenames 2>/dev/null; found=($(compgen -d -- "$cur"; compgen -f -X '!*.safetensors' -- "$cur")) ;;
        file) compopt -o filenames 2>/dev/null; found=($(compgen -f -- "$cur")) ;;
        *) return ;;
    esac
    # readline replaces only $typed, which is the end of the word
    local i kept="${word%"$typed"}"
    for i in "${!found[@]}"; do
        COMPREPLY[i]="$head${found[i]}"
        COMPREPLY[i]="${COMPREPLY[i]#"$kept"}"
    done
}

_cnsctl_prompt() {
    local IFS=$'\n' sign="@" after="" last="${word##*[[:space:]]}"
    if [[ ${word##*<} != *">"* && $word == *"<"* ]]; then
        head="${word%"<"*}" sign="<" after=">" cur="${word##*<}"
    elif [[ $last == "@"* ]]; then
        head="${word%"$last"}" cur="${last#@}"
    elif [[ -z $last ]]; then
        head="$word" cur=""
        [[ -n $quote ]] && sign="<" after=">"
    else
        return
    fi
    head+="$sign"
    local name names=()
    for name in $(_cnsctl_names); do
        names+=("$name$after")
    done
    _cnsctl_reply words "${names[@]}"
    # with one answer readline would close the quote, and the prompt goes on
    [[ -n $quote && ${#COMPREPLY[@]} -eq 1 ]] && COMPREPLY+=("${COMPREPLY[0]} ")
}
"""

_CONCEPT = r"""
# names that the line does not have already
_cnsctl_concept() {
    local IFS=$'\n' after="" name known names=()
    case "$word" in
        "<"*) head="<" cur="${word#"<"}" after=">" ;;
        "@"*) head="@" cur="${word#"@"}" ;;
    esac
    for name in $(_cnsctl_names); do
        for known in "${given[@]}"; do
            known="${known#[<@]}"
            [[ $name == "${known%">"}" ]] && continue 2
        done
        names+=("$name$after")
    done
    _cnsctl_reply words "${names[@]}"
}
"""


def script(verbs: Sequence[Verb]) -> str:
    """The script, for these verbs."""
    names = " ".join(v.name for v in verbs)
    return f"""# bash completion for cnsctl; made by: cnsctl completion bash
{_SPLIT.lstrip()}{_NAMES}{_REPLY}{_CONCEPT}
_cnsctl() {{
    local words word quote redirect typed="$2" cur head="" verb="" flag="" store="" unfinished="" given=() name w
    local IFS=$' \\t\\n'
    COMPREPLY=()
    _cnsctl_split
    for w in "${{words[@]:1}}"; do
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
            *) if [[ -z $verb ]]; then verb="$w"; else given+=("$w"); fi ;;
        esac
    done
{STORE.strip(chr(10))}
    cur="$word"
    if [[ -n $redirect ]]; then
        _cnsctl_reply file
        return
    fi
    if [[ -z $flag && $word == --*=* ]]; then
        flag="${{word%%=*}}" cur="${{word#*=}}" head="${{word%%=*}}="
    fi
    if [[ -n $flag ]]; then
        case "$verb:$flag" in
{_values(verbs)}
        esac
        return
    fi
    if [[ $word == -* && -z $quote ]]; then
        case "$verb" in
            "") _cnsctl_reply words --help --version --store --json --quiet ;;
{_flags(verbs)}
        esac
        return
    fi
    if [[ -z $verb ]]; then
        _cnsctl_reply words {names}
        return
    fi
    case "$verb:${{#given[@]}}" in
{_arguments(verbs)}
    esac
}}
complete -F _cnsctl cnsctl
"""


def _values(verbs: Sequence[Verb]) -> str:
    return "\n".join(
        f"            {'|'.join(patterns)}) _cnsctl_reply {' '.join(('words', *choices)) if choices else kind} ;;"
        for (kind, choices), patterns in values(verbs).items()
    )


def _flags(verbs: Sequence[Verb]) -> str:
    return "\n".join(
        f"            {v.name}) _cnsctl_reply words {' '.join(n for f in v.flags for n in f.names)} -h --help ;;"
        for v in verbs
    )


def _arguments(verbs: Sequence[Verb]) -> str:
    actions: dict[str, list[str]] = {}
    for verb in verbs:
        for at, kind in enumerate(verb.arguments):
            is_last = verb.repeats and at == len(verb.arguments) - 1
            pattern = f"{verb.name}:*" if is_last else f"{verb.name}:{at}"  # earlier arguments come first
            actions.setdefault(_action(verb, kind), []).append(pattern)
    order = sorted(actions.items(), key=lambda action: any(pattern.endswith("*") for pattern in action[1]))
    return "\n".join(f"        {'|'.join(patterns)}) {action} ;;" for action, patterns in order)


def _action(verb: Verb, kind: Kind) -> str:
    if kind is Kind.TEXT:
        return ":"
    if kind is Kind.CHOICES:
        return f"_cnsctl_reply words {' '.join(verb.choices)}"
    if kind is Kind.PROMPT:
        return "_cnsctl_prompt"
    return "_cnsctl_concept" if kind is Kind.CONCEPT else f"_cnsctl_reply {kind}"
