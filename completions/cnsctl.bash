# bash completion for cnsctl; made by: cnsctl completion bash
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

_cnsctl_reply() {
    local IFS=$'\n' found
    case "$1" in
        words) shift; found=($(compgen -W "$*" -- "$cur")) ;;
        folder) compopt -o filenames 2>/dev/null; found=($(compgen -d -- "$cur")) ;;
        model) compopt -o filenames 2>/dev/null; found=($(compgen -d -- "$cur"; compgen -f -X '!*.safetensors' -- "$cur")) ;;
        file) compopt -o filenames 2>/dev/null; found=($(compgen -f -- "$cur")) ;;
        *) return ;;
    esac
    found=("${found[@]/#/$head}")
    # readline replaces only $typed, which is the end of the word
    COMPREPLY=("${found[@]#"${word%"$typed"}"}")
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

_cnsctl() {
    local words word quote redirect typed="$2" cur head="" verb="" flag="" store="" unfinished="" given=() name w
    local IFS=$' \t\n'
    COMPREPLY=()
    _cnsctl_split
    for w in "${words[@]:1}"; do
        if [[ -n $flag ]]; then
            [[ $flag == --store ]] && store="$w"
            flag=""
            continue
        fi
        case "$w" in
            --store=*) store="${w#--store=}" ;;
            --unfinished) unfinished=1 ;;
            ) flag="$w" ;;
            -?*) ;;
            *) if [[ -z $verb ]]; then verb="$w"; else given+=("$w"); fi ;;
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
    cur="$word"
    if [[ -n $redirect ]]; then
        _cnsctl_reply file
        return
    fi
    if [[ -z $flag && $word == --*=* ]]; then
        flag="${word%%=*}" cur="${word#*=}" head="${word%%=*}="
    fi
    if [[ -n $flag ]]; then
        case "$verb:$flag" in

        esac
        return
    fi
    if [[ $word == -* && -z $quote ]]; then
        case "$verb" in
            "") _cnsctl_reply words --help --version --store --json --quiet ;;
            completion) _cnsctl_reply words --install --uninstall -h --help ;;
        esac
        return
    fi
    if [[ -z $verb ]]; then
        _cnsctl_reply words completion
        return
    fi
    case "$verb:${#given[@]}" in
        completion:0) _cnsctl_reply words bash zsh fish ;;
    esac
}
complete -F _cnsctl cnsctl
