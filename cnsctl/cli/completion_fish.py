"""The completion script of fish.

Owns this script; must not know where verbs come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.cli.completion import Flag, Kind, Verb, quoted, valued

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FUNCTIONS = r"""
# sets cnsctl_verb, cnsctl_given (arguments), cnsctl_store and cnsctl_unfinished from the line before the cursor
function __cnsctl_read
    set -g cnsctl_verb ""
    set -g cnsctl_given
    set -g cnsctl_store $CNSCTL_STORE
    set -g cnsctl_unfinished
    set -l flag ""
    for word in (commandline -opc)[2..-1]
        if test -n "$flag"
            test "$flag" = --store; and set cnsctl_store $word
            set flag ""
            continue
        end
        switch $word
            case '--store=*'
                set cnsctl_store (string replace -- '--store=' '' $word)
            case --unfinished
                set cnsctl_unfinished 1
            case VALUED
                set flag $word
            case '-?*'
            case '*'
                if test -z "$cnsctl_verb"
                    set cnsctl_verb $word
                else
                    set -a cnsctl_given $word
                end
        end
    end
end

function __cnsctl_models
    for path in (__fish_complete_suffix .safetensors)
        set path (string split -f 1 \t -- $path)
        string match -qr -- '(/|\.safetensors)$' $path; and printf '%s\t\n' $path
    end
end

function __cnsctl_is
    __cnsctl_read
    test "$cnsctl_verb" = "$argv[1]"
end

# is the argument at the cursor of this kind?
function __cnsctl_wants
    __cnsctl_read
    set -l kinds
    set -l repeats
    switch "$cnsctl_verb"
ARGUMENTS
    end
    set -l at (math (count $cnsctl_given) + 1)
    if test $at -gt (count $kinds); and test -n "$repeats"
        set at (count $kinds)
    end
    test "$kinds[$at]" = "$argv[1]"
end

function __cnsctl_names
    __cnsctl_read
    set -l store (string replace -r -- '^~/' "$HOME/" $cnsctl_store)
    if test -z "$store"; and test (uname) = Darwin; and test -z "$XDG_DATA_HOME"
        set store "$HOME/Library/Application Support/cnsctl"
    end
    if test -z "$store"
        set -l data "$XDG_DATA_HOME"
        test -n "$data"; or set data "$HOME/.local/share"
        set store "$data/cnsctl"
    end
    if test -z "$cnsctl_unfinished"
        test -r "$store/names"; and cat -- "$store/names"
        return
    end
    for folder in $store/work/*/
        if count (string match -v -- '*/lock' $folder*) >/dev/null
            path basename -- $folder
        end
    end
end

# names that the line does not have already; also after < or @
function __cnsctl_concepts
    set -l names (__cnsctl_names)
    set -l used (string trim -c '<>@' -- $cnsctl_given)
    for name in $names
        if not contains -- $name $used
            switch (commandline -ct)
                case '@*'
                    echo @$name
                case '*<*'
                    echo "<$name>"
                case '*'
                    echo $name
            end
        end
    end
end

# names between two texts
function __cnsctl_say
    for name in (__cnsctl_names)
        printf '%s\t\n' "$argv[1]$name$argv[2]"
    end
end

function __cnsctl_prompts
    set -l word (string trim -l -c '"\'' -- (commandline -ct))
    set -l is_quoted (string match -r -- '^["\']' (commandline -ct))
    if set -l head (string match -r -- '^(?:.*[^<])?(?=<[^<>]*$)|^(?=<[^<>]*$)' "$word")
        __cnsctl_say "$head<" ">"
    else if set -l head (string match -r -- '^(?:.*\s)?(?=@\S*$)' "$word")
        __cnsctl_say "$head@" ""
    else if string match -qr -- '(^|\s)$' "$word"
        if test -n "$is_quoted"
            __cnsctl_say "$word<" ">"
        else
            __cnsctl_say @ ""
        end
    end
end
"""


def script(verbs: Sequence[Verb]) -> str:
    """The script, for these verbs."""
    functions = _FUNCTIONS.strip().replace("VALUED", " ".join(valued(verbs))).replace("ARGUMENTS", _arguments(verbs))
    return (
        "\n".join(["# fish completion for cnsctl; made by: cnsctl completion fish", functions, "", *_lines(verbs)])
        + "\n"
    )


def _lines(verbs: Sequence[Verb]) -> Iterator[str]:
    yield "complete -c cnsctl -f"
    for v in verbs:
        yield f"complete -c cnsctl -n '__cnsctl_is \"\"' -a {v.name} -d {quoted(v.help)}"
    yield "complete -c cnsctl -n '__cnsctl_is \"\"' -l help -d 'Show the help'"
    yield "complete -c cnsctl -n '__cnsctl_is \"\"' -l version -d 'Print the version'"
    for v in verbs:
        yield f"complete -c cnsctl -n '__cnsctl_is {v.name}' -s h -l help -d 'Show the help'"
        for flag in v.flags:
            yield f"complete -c cnsctl -n '__cnsctl_is {v.name}' {_option(flag)} -d {quoted(flag.help)}"
        if v.choices:
            yield f"complete -c cnsctl -n '__cnsctl_is {v.name}; and __cnsctl_wants choices' -a {quoted(' '.join(v.choices))}"
    for kind, what in _ARGUMENTS.items():
        yield f"complete -c cnsctl -n '__cnsctl_wants {kind}' {what}"


_FOLDERS, _MODELS = (
    "-a '(__fish_complete_directories (commandline -ct))'",
    "-k -a '(__cnsctl_models)'",
)
_ARGUMENTS = {
    Kind.CONCEPT: "-a '(__cnsctl_concepts)'",
    Kind.PROMPT: "-a '(__cnsctl_prompts)'",
    Kind.FILE: "-F",
    Kind.FOLDER: _FOLDERS,
    Kind.MODEL: _MODELS,
}


def _option(flag: Flag) -> str:
    """Its names, and what its value may be; choices have an empty description, else each would repeat the option's."""
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
    value = {None: "", Kind.FILE: " -r -F", Kind.FOLDER: f" -x {_FOLDERS}", Kind.MODEL: f" -x {_MODELS}"}.get(
        flag.kind, " -x"
    )
    if flag.choices:
        value = " -x -a " + quoted(" ".join(f"{choice}\\t" for choice in flag.choices))
    return names + value


def _arguments(verbs: Sequence[Verb]) -> str:
    lines = []
    for verb in verbs:
        if verb.arguments:
            lines += [f"        case {verb.name}", f"            set kinds {' '.join(verb.arguments)}"]
            lines += ["            set repeats 1"] if verb.repeats else []
    return "\n".join(lines)
