# fish completion for cnsctl; made by: cnsctl completion fish
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
            case 
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
        case completion
            set kinds choices
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

complete -c cnsctl -f
complete -c cnsctl -n '__cnsctl_is ""' -a completion -d 'Print or install a shell completion script'
complete -c cnsctl -n '__cnsctl_is ""' -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is ""' -l version -d 'Print the version'
complete -c cnsctl -n '__cnsctl_is completion' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is completion' -l install -d 'Write the script to the user'\''s folder of completions'
complete -c cnsctl -n '__cnsctl_is completion' -l uninstall -d 'Delete the script that --install wrote'
complete -c cnsctl -n '__cnsctl_is completion; and __cnsctl_wants choices' -a 'bash zsh fish'
complete -c cnsctl -n '__cnsctl_wants concept' -a '(__cnsctl_concepts)'
complete -c cnsctl -n '__cnsctl_wants prompt' -a '(__cnsctl_prompts)'
complete -c cnsctl -n '__cnsctl_wants file' -F
complete -c cnsctl -n '__cnsctl_wants folder' -a '(__fish_complete_directories (commandline -ct))'
complete -c cnsctl -n '__cnsctl_wants model' -k -a '(__cnsctl_models)'
