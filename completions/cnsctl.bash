# bash completion for cnsctl; made by: cnsctl completion bash
_cnsctl_names() {
    local WORDS=("${COMP_WORDS[@]}")
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
}

_cnsctl() {
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" verb="${COMP_WORDS[1]}" flags=""
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "add score gen demo ls show gallery verify eval log export import init base mv rm undo check gc doctor completion --help --version" -- "$cur"))
        return
    fi
    case "$prev" in
        --policy) COMPREPLY=($(compgen -W "overlap prefer-free exclusive" -- "$cur")); return ;;
        --select) COMPREPLY=($(compgen -W "exact intersect" -- "$cur")); return ;;
        --device) COMPREPLY=($(compgen -W "auto cuda mps cpu" -- "$cur")); return ;;
        --dtype) COMPREPLY=($(compgen -W "auto fp32 bf16 fp16" -- "$cur")); return ;;
        --memory) COMPREPLY=($(compgen -W "auto low lowest" -- "$cur")); return ;;
        --sampler) COMPREPLY=($(compgen -W "base dpm++2m dpm++2m-sde dpm++3m-sde dpm++2s dpm++sde euler euler-a heun dpm2 dpm2-a lms unipc deis pndm ddim ddpm lcm" -- "$cur")); return ;;
        --sigmas) COMPREPLY=($(compgen -W "default karras exponential beta" -- "$cur")); return ;;
        --spacing) COMPREPLY=($(compgen -W "default leading trailing linspace" -- "$cur")); return ;;
        --format) COMPREPLY=($(compgen -W "lora lora-exact diff kv custom-diffusion embedding native bundle checkpoint" -- "$cur")); return ;;
        --keys) COMPREPLY=($(compgen -W "kohya diffusers" -- "$cur")); return ;;
        --mode) COMPREPLY=($(compgen -W "token prompt merged" -- "$cur")); return ;;
        --prediction) COMPREPLY=($(compgen -W "epsilon v_prediction" -- "$cur")); return ;;
        --from|--masks|--preview-folder|--store|-o|--output|--html|--base|--clip|--judge|--at) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
    esac
    case "$verb" in
        add) flags="--from --class --holdout --recursive --masks --replace --no-preview --preview-every --preview-folder --no-measure --allow-worse --steps --learning-rate --token-learning-rate --batch-size --resolution --accumulate --budget --seed --token-embeddings --warmup --policy --lambda-prev --lambda-base --orthogonal --select --random-mask --device --dtype --memory --allow-forgetting --wait --store --json --quiet --help" ;;
        score) flags="--class --holdout --recursive --masks --steps --token-learning-rate --batch-size --resolution --budget --seed --token-embeddings --warmup --policy --select --random-mask --device --dtype --memory --store --json --quiet --help" ;;
        gen) flags="--count --seed --batch-size --output --negative-prompt --steps --guidance-scale --sampler --sigmas --spacing --width --height --clip-skip --long-prompts --size --force --device --dtype --memory --store --json --json-steps --quiet --help" ;;
        demo) flags="--output --steps --device --dtype --memory --json --quiet --help" ;;
        ls) flags="--store --json --quiet --help" ;;
        show) flags="--overlaps --store --json --quiet --help" ;;
        gallery) flags="--output --force --store --json --quiet --help" ;;
        verify) flags="--device --dtype --memory --store --json --quiet --help" ;;
        eval) flags="--no-images --full --html --force --device --dtype --memory --store --json --quiet --help" ;;
        log) flags="--store --json --quiet --help" ;;
        export) flags="--format --rank --keys --output --force --no-measure --device --memory --store --json --quiet --help" ;;
        import) flags="--name --class --kv-only --budget --rename --replace --device --dtype --memory --wait --store --json --quiet --help" ;;
        init) flags="--store --base --copy --mode --prediction --clip --judge --yes --json --quiet --help" ;;
        base) flags="--at --estimate --clip --judge --dtype --yes --wait --store --json --quiet --help" ;;
        mv) flags="--unfinished --wait --store --json --quiet --help" ;;
        rm) flags="--unfinished --purge --yes --wait --store --json --quiet --help" ;;
        undo) flags="--wait --store --json --quiet --help" ;;
        check) flags="--read-data --repair --wait --store --json --quiet --help" ;;
        gc) flags="--dry-run --wait --store --json --quiet --help" ;;
        doctor) flags="--paths --store --json --quiet --help" ;;
        completion) flags=" --help" ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
        return
    fi
    case "$verb" in
        show|verify|eval|export|mv|rm) COMPREPLY=($(compgen -W "$(_cnsctl_names)" -- "$cur")) ;;
        gen) COMPREPLY=($(compgen -P @ -W "$(_cnsctl_names)" -- "${cur#@}")) ;;
        completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")) ;;
        add|score|import|base) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    esac
}
complete -F _cnsctl cnsctl
