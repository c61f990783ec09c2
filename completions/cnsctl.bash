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
            --accumulate|--at|--base|--batch-size|--budget|--class|--clip|--clip-skip|--count|--device|--dtype|--format|--from|--guidance-scale|--height|--holdout|--html|--judge|--keys|--lambda-base|--lambda-prev|--learning-rate|--like|--masks|--memory|--mode|--name|--negative-prompt|--output|--policy|--prediction|--preview-every|--preview-folder|--rank|--rename|--resolution|--sampler|--seed|--select|--sheet|--sigmas|--size|--spacing|--steps|--store|--token-embeddings|--token-learning-rate|--wait|--warmup|--width|-n|-o) flag="$w" ;;
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
            *:--from|gen:-o|gallery:-o|export:-o|gen:--output|gallery:--output|export:--output|*:--like|*:--sheet|*:--html) _cnsctl_reply file ;;
            *:--masks|*:--preview-folder|*:--store|demo:-o|demo:--output|*:--clip|*:--judge) _cnsctl_reply folder ;;
            *:--policy) _cnsctl_reply words overlap prefer-free exclusive ;;
            *:--select) _cnsctl_reply words exact intersect ;;
            *:--device) _cnsctl_reply words auto cuda mps cpu ;;
            *:--dtype) _cnsctl_reply words auto fp32 bf16 fp16 ;;
            *:--memory) _cnsctl_reply words auto low lowest ;;
            *:--sampler) _cnsctl_reply words base dpm++2m dpm++2m-sde dpm++3m-sde dpm++2s dpm++sde euler euler-a heun dpm2 dpm2-a lms unipc deis pndm ddim ddpm lcm ;;
            *:--sigmas) _cnsctl_reply words default karras exponential beta ;;
            *:--spacing) _cnsctl_reply words default leading trailing linspace ;;
            *:--format) _cnsctl_reply words lora lora-exact diff kv custom-diffusion embedding native bundle checkpoint ;;
            *:--keys) _cnsctl_reply words kohya diffusers ;;
            *:--base|*:--at) _cnsctl_reply model ;;
            *:--mode) _cnsctl_reply words token prompt merged ;;
            *:--prediction) _cnsctl_reply words epsilon v_prediction ;;
        esac
        return
    fi
    if [[ $word == -* && -z $quote ]]; then
        case "$verb" in
            "") _cnsctl_reply words --help --version --store --json --quiet ;;
            add) _cnsctl_reply words --from --class --holdout --recursive --masks --replace --restart --no-preview --preview-every --preview-folder --no-measure --allow-worse --steps --learning-rate --token-learning-rate --batch-size --resolution --accumulate --budget --seed --token-embeddings --warmup --policy --lambda-prev --lambda-base --orthogonal --select --random-mask --device --dtype --memory --allow-forgetting --wait --store --json --quiet -q --verbose -v -h --help ;;
            score) _cnsctl_reply words --class --holdout --recursive --masks --steps --token-learning-rate --batch-size --resolution --budget --seed --token-embeddings --warmup --policy --select --random-mask --device --dtype --memory --store --json --quiet -q -h --help ;;
            gen) _cnsctl_reply words -n --count --seed --batch-size -o --output --negative-prompt --steps --guidance-scale --sampler --sigmas --spacing --width --height --clip-skip --long-prompts --size --like --compare --sheet --skip-existing --force -f --device --dtype --memory --store --json --json-steps --quiet -q -h --help ;;
            info) _cnsctl_reply words --json --quiet -q -h --help ;;
            demo) _cnsctl_reply words -o --output --steps --device --dtype --memory --json --quiet -q -h --help ;;
            ls) _cnsctl_reply words --store --json --quiet -q -h --help ;;
            show) _cnsctl_reply words --open --overlaps --store --json --quiet -q --verbose -v -h --help ;;
            gallery) _cnsctl_reply words --output -o --force -f --store --json --quiet -q -h --help ;;
            verify) _cnsctl_reply words --device --dtype --memory --store --json --quiet -q -h --help ;;
            eval) _cnsctl_reply words --no-images --full --html --force -f --device --dtype --memory --store --json --quiet -q -h --help ;;
            log) _cnsctl_reply words --store --json --quiet -q -h --help ;;
            export) _cnsctl_reply words --format --rank --keys -o --output --force -f --no-measure --device --memory --store --json --quiet -q -h --help ;;
            import) _cnsctl_reply words --name --class --kv-only --budget --rename --replace --device --dtype --memory --wait --store --json --quiet -q -h --help ;;
            init) _cnsctl_reply words --store --base --copy --mode --prediction --clip --judge --yes -y --json --quiet -q -h --help ;;
            base) _cnsctl_reply words --at --estimate --clip --judge --dtype --yes -y --wait --store --json --quiet -q -h --help ;;
            mv) _cnsctl_reply words --unfinished --wait --store --json --quiet -q -h --help ;;
            rm) _cnsctl_reply words --all --unfinished --purge --yes -y -f --wait --store --json --quiet -q -h --help ;;
            undo) _cnsctl_reply words --wait --store --json --quiet -q -h --help ;;
            check) _cnsctl_reply words --read-data --repair --wait --store --json --quiet -q -h --help ;;
            gc) _cnsctl_reply words --dry-run -n --wait --store --json --quiet -q -h --help ;;
            backup) _cnsctl_reply words --force -f --with-base --store --json --quiet -q -h --help ;;
            restore) _cnsctl_reply words --dry-run -n --store --json --quiet -q -h --help ;;
            migrate) _cnsctl_reply words --dry-run -n --back --wait --store --json --quiet -q -h --help ;;
            doctor) _cnsctl_reply words --paths --store --json --quiet -q -h --help ;;
            completion) _cnsctl_reply words --install --uninstall -h --help ;;
        esac
        return
    fi
    if [[ -z $verb ]]; then
        _cnsctl_reply words add score gen info demo ls show gallery verify eval log export import init base mv rm undo check gc backup restore migrate doctor completion
        return
    fi
    case "$verb:${#given[@]}" in
        add:0|score:0|mv:1) : ;;
        base:0) _cnsctl_reply model ;;
        completion:0) _cnsctl_reply words bash zsh fish ;;
        add:*|score:*|info:*|import:*|backup:0|restore:0) _cnsctl_reply file ;;
        gen:*) _cnsctl_prompt ;;
        ls:*|show:*|verify:*|eval:*|export:*|mv:0|rm:*) _cnsctl_concept ;;
    esac
}
complete -F _cnsctl cnsctl
