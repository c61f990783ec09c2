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
            case --accumulate --at --base --batch-size --budget --class --clip --clip-skip --count --device --dtype --format --from --guidance-scale --height --holdout --html --judge --keys --lambda-base --lambda-prev --learning-rate --like --masks --memory --mode --name --negative-prompt --output --policy --prediction --preview-every --preview-folder --rank --rename --resolution --sampler --seed --select --sheet --sigmas --size --spacing --steps --store --token-embeddings --token-learning-rate --wait --warmup --width -n -o
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
        case add
            set kinds text file
            set repeats 1
        case score
            set kinds text file
            set repeats 1
        case gen
            set kinds prompt
            set repeats 1
        case info
            set kinds file
            set repeats 1
        case ls
            set kinds concept
            set repeats 1
        case show
            set kinds concept
            set repeats 1
        case verify
            set kinds concept
            set repeats 1
        case eval
            set kinds concept
            set repeats 1
        case export
            set kinds concept
            set repeats 1
        case import
            set kinds file
            set repeats 1
        case base
            set kinds model
        case mv
            set kinds concept text
        case rm
            set kinds concept
            set repeats 1
        case backup
            set kinds file
        case restore
            set kinds file
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
complete -c cnsctl -n '__cnsctl_is ""' -a add -d 'Train a concept from images'
complete -c cnsctl -n '__cnsctl_is ""' -a score -d 'Show which neurons add would train'
complete -c cnsctl -n '__cnsctl_is ""' -a gen -d 'Generate images from prompts'
complete -c cnsctl -n '__cnsctl_is ""' -a info -d 'Show how an image was generated'
complete -c cnsctl -n '__cnsctl_is ""' -a demo -d 'Train two bundled concepts and show them'
complete -c cnsctl -n '__cnsctl_is ""' -a ls -d 'List the concepts of the store'
complete -c cnsctl -n '__cnsctl_is ""' -a show -d 'Show everything about one or more concepts'
complete -c cnsctl -n '__cnsctl_is ""' -a gallery -d 'Write all concepts as one page'
complete -c cnsctl -n '__cnsctl_is ""' -a verify -d 'Check that no concept has changed'
complete -c cnsctl -n '__cnsctl_is ""' -a eval -d 'Measure concepts and forgetting'
complete -c cnsctl -n '__cnsctl_is ""' -a log -d 'List the last changes of the store'
complete -c cnsctl -n '__cnsctl_is ""' -a export -d 'Write concepts as files for other tools'
complete -c cnsctl -n '__cnsctl_is ""' -a import -d 'Import concepts from files'
complete -c cnsctl -n '__cnsctl_is ""' -a init -d 'Create a store on a base model'
complete -c cnsctl -n '__cnsctl_is ""' -a base -d 'Show the store'\''s base model and its place'
complete -c cnsctl -n '__cnsctl_is ""' -a mv -d 'Rename a concept; its bytes stay the same'
complete -c cnsctl -n '__cnsctl_is ""' -a rm -d 'Remove concepts from the store'
complete -c cnsctl -n '__cnsctl_is ""' -a undo -d 'Undo the last change of the store'
complete -c cnsctl -n '__cnsctl_is ""' -a check -d 'Check the files of the store'
complete -c cnsctl -n '__cnsctl_is ""' -a gc -d 'Delete files that no concept needs'
complete -c cnsctl -n '__cnsctl_is ""' -a backup -d 'Write the store to one file'
complete -c cnsctl -n '__cnsctl_is ""' -a restore -d 'Create a store from a backup'
complete -c cnsctl -n '__cnsctl_is ""' -a migrate -d 'Bring the store to the newest format'
complete -c cnsctl -n '__cnsctl_is ""' -a doctor -d 'Print what a bug report needs'
complete -c cnsctl -n '__cnsctl_is ""' -a completion -d 'Print or install a shell completion script'
complete -c cnsctl -n '__cnsctl_is ""' -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is ""' -l version -d 'Print the version'
complete -c cnsctl -n '__cnsctl_is add' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is add' -l from -r -F -d 'Train the concepts of a concepts_list.json instead; those in the store are skipped'
complete -c cnsctl -n '__cnsctl_is add' -l class -x -d 'Class word, such as dog'
complete -c cnsctl -n '__cnsctl_is add' -l holdout -x -d 'Keep the last N images for evaluation'
complete -c cnsctl -n '__cnsctl_is add' -l recursive -d 'Also search subfolders for images'
complete -c cnsctl -n '__cnsctl_is add' -l masks -x -a '(__fish_complete_directories (commandline -ct))' -d 'Grey images of the same names: only what is white is trained'
complete -c cnsctl -n '__cnsctl_is add' -l replace -d 'Replace the concept of this name'
complete -c cnsctl -n '__cnsctl_is add' -l restart -d 'Delete the state of an interrupted run of this name, and train from step 0'
complete -c cnsctl -n '__cnsctl_is add' -l no-preview -d 'Do not generate images after the training'
complete -c cnsctl -n '__cnsctl_is add' -l preview-every -x -d 'Generate four images every N steps; the result is the same'
complete -c cnsctl -n '__cnsctl_is add' -l preview-folder -x -a '(__fish_complete_directories (commandline -ct))' -d 'Folder of these images'
complete -c cnsctl -n '__cnsctl_is add' -l no-measure -d 'Save right after the training, without scores and images'
complete -c cnsctl -n '__cnsctl_is add' -l allow-worse -d 'Save the concept even if it is worse than its class word'
complete -c cnsctl -n '__cnsctl_is add' -l steps -x -d 'Training steps (2 to 100,000)'
complete -c cnsctl -n '__cnsctl_is add' -l learning-rate -x -d 'Learning rate of the neurons (1e-09 to 1)'
complete -c cnsctl -n '__cnsctl_is add' -l token-learning-rate -x -d 'Learning rate of the token embedding (1e-09 to 1)'
complete -c cnsctl -n '__cnsctl_is add' -l batch-size -x -d 'Noised images per step (1 to 1,024)'
complete -c cnsctl -n '__cnsctl_is add' -l resolution -x -d 'Side of a square image in pixels; other shapes have about its area (32 to 4,096, a multiple of 4)'
complete -c cnsctl -n '__cnsctl_is add' -l accumulate -x -d 'Batches per step, whose gradients are added up: less memory than a larger batch (1 to 1,024)'
complete -c cnsctl -n '__cnsctl_is add' -l budget -x -d 'Share of the K/V weights that the concept may change (1e-06 to 1)'
complete -c cnsctl -n '__cnsctl_is add' -l seed -x -d 'Seed of every random number (0 to 2^62)'
complete -c cnsctl -n '__cnsctl_is add' -l token-embeddings -x -d 'Token embeddings of the concept (1 to 16)'
complete -c cnsctl -n '__cnsctl_is add' -l warmup -x -d 'Share of the steps that trains the token embedding alone (0 to 1)'
complete -c cnsctl -n '__cnsctl_is add' -l policy -x -a 'overlap\t prefer-free\t exclusive\t' -d 'Neurons that other concepts own: take them, take free ones first, or leave them'
complete -c cnsctl -n '__cnsctl_is add' -l lambda-prev -x -d 'Weight of the pull towards values of earlier concepts (0 or more)'
complete -c cnsctl -n '__cnsctl_is add' -l lambda-base -x -d 'Weight of the pull towards the base model'\''s values (0 or more)'
complete -c cnsctl -n '__cnsctl_is add' -l orthogonal -d 'Train only in directions that earlier concepts do not read'
complete -c cnsctl -n '__cnsctl_is add' -l select -x -a 'exact\t intersect\t' -d 'exact: meet the budget; intersect: the paper'\''s mask, which may be smaller'
complete -c cnsctl -n '__cnsctl_is add' -l random-mask -d 'Ablation: train a random mask of the same size'
complete -c cnsctl -n '__cnsctl_is add' -l device -x -a 'auto\t cuda\t mps\t cpu\t' -d 'Where to compute; cuda:1 is the second GPU'
complete -c cnsctl -n '__cnsctl_is add' -l dtype -x -a 'auto\t fp32\t bf16\t fp16\t' -d 'Precision; fp16 only generates'
complete -c cnsctl -n '__cnsctl_is add' -l memory -x -a 'auto\t low\t lowest\t' -d 'Save memory, in exchange for time; auto: if the device has too little'
complete -c cnsctl -n '__cnsctl_is add' -l allow-forgetting -d 'Save the concept even if an earlier one loses more than 5 points'
complete -c cnsctl -n '__cnsctl_is add' -l wait -x -d 'How long to wait for another process that writes to the store'
complete -c cnsctl -n '__cnsctl_is add' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is add' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is add' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is add' -l verbose -s v -d 'Print details: neurons, learning rates, scores'
complete -c cnsctl -n '__cnsctl_is score' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is score' -l class -x -d 'Class word, such as dog'
complete -c cnsctl -n '__cnsctl_is score' -l holdout -x -d 'Keep the last N images for evaluation'
complete -c cnsctl -n '__cnsctl_is score' -l recursive -d 'Also search subfolders for images'
complete -c cnsctl -n '__cnsctl_is score' -l masks -x -a '(__fish_complete_directories (commandline -ct))' -d 'Grey images of the same names: only what is white is trained'
complete -c cnsctl -n '__cnsctl_is score' -l steps -x -d 'Training steps (2 to 100,000)'
complete -c cnsctl -n '__cnsctl_is score' -l token-learning-rate -x -d 'Learning rate of the token embedding (1e-09 to 1)'
complete -c cnsctl -n '__cnsctl_is score' -l batch-size -x -d 'Noised images per step (1 to 1,024)'
complete -c cnsctl -n '__cnsctl_is score' -l resolution -x -d 'Side of a square image in pixels; other shapes have about its area (32 to 4,096, a multiple of 4)'
complete -c cnsctl -n '__cnsctl_is score' -l budget -x -d 'Share of the K/V weights that the concept may change (1e-06 to 1)'
complete -c cnsctl -n '__cnsctl_is score' -l seed -x -d 'Seed of every random number (0 to 2^62)'
complete -c cnsctl -n '__cnsctl_is score' -l token-embeddings -x -d 'Token embeddings of the concept (1 to 16)'
complete -c cnsctl -n '__cnsctl_is score' -l warmup -x -d 'Share of the steps that trains the token embedding alone (0 to 1)'
complete -c cnsctl -n '__cnsctl_is score' -l policy -x -a 'overlap\t prefer-free\t exclusive\t' -d 'Neurons that other concepts own: take them, take free ones first, or leave them'
complete -c cnsctl -n '__cnsctl_is score' -l select -x -a 'exact\t intersect\t' -d 'exact: meet the budget; intersect: the paper'\''s mask, which may be smaller'
complete -c cnsctl -n '__cnsctl_is score' -l random-mask -d 'Ablation: train a random mask of the same size'
complete -c cnsctl -n '__cnsctl_is score' -l device -x -a 'auto\t cuda\t mps\t cpu\t' -d 'Where to compute; cuda:1 is the second GPU'
complete -c cnsctl -n '__cnsctl_is score' -l dtype -x -a 'auto\t fp32\t bf16\t fp16\t' -d 'Precision; fp16 only generates'
complete -c cnsctl -n '__cnsctl_is score' -l memory -x -a 'auto\t low\t lowest\t' -d 'Save memory, in exchange for time; auto: if the device has too little'
complete -c cnsctl -n '__cnsctl_is score' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is score' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is score' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is gen' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is gen' -s n -l count -x -d 'Images per prompt; image k uses seed + k (1 to 100,000)'
complete -c cnsctl -n '__cnsctl_is gen' -l seed -x -d 'Seed of the first image; -1 is random (-1 to 2^62)'
complete -c cnsctl -n '__cnsctl_is gen' -l batch-size -x -d 'Images at a time; 1 makes each independent of the others; auto: as many as the memory allows (1 to 4,096, or auto)'
complete -c cnsctl -n '__cnsctl_is gen' -s o -l output -r -F -d 'FILE.png, a folder, or - for PNG bytes'
complete -c cnsctl -n '__cnsctl_is gen' -l negative-prompt -x -d 'What the images should not show'
complete -c cnsctl -n '__cnsctl_is gen' -l steps -x -d 'Inference steps (1 to 999)'
complete -c cnsctl -n '__cnsctl_is gen' -l guidance-scale -x -d 'How closely to follow the prompt; 1 is off (0 to 100)'
complete -c cnsctl -n '__cnsctl_is gen' -l sampler -x -a 'base\t dpm++2m\t dpm++2m-sde\t dpm++3m-sde\t dpm++2s\t dpm++sde\t euler\t euler-a\t heun\t dpm2\t dpm2-a\t lms\t unipc\t deis\t pndm\t ddim\t ddpm\t lcm\t' -d 'Sampler; names of other tools work'
complete -c cnsctl -n '__cnsctl_is gen' -l sigmas -x -a 'default\t karras\t exponential\t beta\t' -d 'Spread of the noise levels; default is the scheduler'\''s own'
complete -c cnsctl -n '__cnsctl_is gen' -l spacing -x -a 'default\t leading\t trailing\t linspace\t' -d 'Spread of the timesteps; default is the scheduler'\''s own'
complete -c cnsctl -n '__cnsctl_is gen' -l width -x -d 'Width in pixels (32 to 4,096, a multiple of 8)'
complete -c cnsctl -n '__cnsctl_is gen' -l height -x -d 'Height in pixels (32 to 4,096, a multiple of 8)'
complete -c cnsctl -n '__cnsctl_is gen' -l clip-skip -x -d 'Last layers of the CLIP text encoders to leave out; 1 is what other tools call clip skip 2 (0 to 31)'
complete -c cnsctl -n '__cnsctl_is gen' -l long-prompts -d 'Read a prompt that is too long in several chunks, instead of ignoring its end'
complete -c cnsctl -n '__cnsctl_is gen' -l size -x -d 'Width and height in pixels, in this order (WIDTHxHEIGHT, such as 768x512, or 768 for both)'
complete -c cnsctl -n '__cnsctl_is gen' -l like -r -F -d 'Repeat the request that this image records; other options replace parts of it'
complete -c cnsctl -n '__cnsctl_is gen' -l compare -d 'Also generate with the class word on the base model: one sheet of both'
complete -c cnsctl -n '__cnsctl_is gen' -l sheet -r -F -d 'Also write all images as one PNG, with prompts'
complete -c cnsctl -n '__cnsctl_is gen' -l skip-existing -d 'Keep files that the same request has made; needs --seed or --like'
complete -c cnsctl -n '__cnsctl_is gen' -l force -s f -d 'Overwrite existing files'
complete -c cnsctl -n '__cnsctl_is gen' -l device -x -a 'auto\t cuda\t mps\t cpu\t' -d 'Where to compute; cuda:1 is the second GPU'
complete -c cnsctl -n '__cnsctl_is gen' -l dtype -x -a 'auto\t fp32\t bf16\t fp16\t' -d 'Precision; fp16 only generates'
complete -c cnsctl -n '__cnsctl_is gen' -l memory -x -a 'auto\t low\t lowest\t' -d 'Save memory, in exchange for time; auto: if the device has too little'
complete -c cnsctl -n '__cnsctl_is gen' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is gen' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is gen' -l json-steps -d 'With --json: print a line per inference step too'
complete -c cnsctl -n '__cnsctl_is gen' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is info' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is info' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is info' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is demo' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is demo' -s o -l output -x -a '(__fish_complete_directories (commandline -ct))' -d 'Folder of the store, images and sheet'
complete -c cnsctl -n '__cnsctl_is demo' -l steps -x -d 'Training steps (2 to 100,000)'
complete -c cnsctl -n '__cnsctl_is demo' -l device -x -a 'auto\t cuda\t mps\t cpu\t' -d 'Where to compute; cuda:1 is the second GPU'
complete -c cnsctl -n '__cnsctl_is demo' -l dtype -x -a 'auto\t fp32\t bf16\t fp16\t' -d 'Precision; fp16 only generates'
complete -c cnsctl -n '__cnsctl_is demo' -l memory -x -a 'auto\t low\t lowest\t' -d 'Save memory, in exchange for time; auto: if the device has too little'
complete -c cnsctl -n '__cnsctl_is demo' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is demo' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is ls' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is ls' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is ls' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is ls' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is show' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is show' -l open -d 'Open the images made after the training in the system'\''s viewer'
complete -c cnsctl -n '__cnsctl_is show' -l overlaps -d 'Count the neurons shared with each other concept; reads all of them'
complete -c cnsctl -n '__cnsctl_is show' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is show' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is show' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is show' -l verbose -s v -d 'Print details: neurons, learning rates, scores'
complete -c cnsctl -n '__cnsctl_is gallery' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is gallery' -l output -s o -r -F -d 'The page, HTML'
complete -c cnsctl -n '__cnsctl_is gallery' -l force -s f -d 'Overwrite existing files'
complete -c cnsctl -n '__cnsctl_is gallery' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is gallery' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is gallery' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is verify' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is verify' -l device -x -a 'auto\t cuda\t mps\t cpu\t' -d 'Where to compute; cuda:1 is the second GPU'
complete -c cnsctl -n '__cnsctl_is verify' -l dtype -x -a 'auto\t fp32\t bf16\t fp16\t' -d 'Precision; fp16 only generates'
complete -c cnsctl -n '__cnsctl_is verify' -l memory -x -a 'auto\t low\t lowest\t' -d 'Save memory, in exchange for time; auto: if the device has too little'
complete -c cnsctl -n '__cnsctl_is verify' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is verify' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is verify' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is eval' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is eval' -l no-images -d 'Measure error removed only: fast, generates nothing'
complete -c cnsctl -n '__cnsctl_is eval' -l full -d 'Measure in full, also what add had little time to measure'
complete -c cnsctl -n '__cnsctl_is eval' -l html -r -F -d 'Also write a page with the images'
complete -c cnsctl -n '__cnsctl_is eval' -l force -s f -d 'Overwrite existing files'
complete -c cnsctl -n '__cnsctl_is eval' -l device -x -a 'auto\t cuda\t mps\t cpu\t' -d 'Where to compute; cuda:1 is the second GPU'
complete -c cnsctl -n '__cnsctl_is eval' -l dtype -x -a 'auto\t fp32\t bf16\t fp16\t' -d 'Precision; fp16 only generates'
complete -c cnsctl -n '__cnsctl_is eval' -l memory -x -a 'auto\t low\t lowest\t' -d 'Save memory, in exchange for time; auto: if the device has too little'
complete -c cnsctl -n '__cnsctl_is eval' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is eval' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is eval' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is log' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is log' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is log' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is log' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is export' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is export' -l format -x -a 'lora\t lora-exact\t diff\t kv\t custom-diffusion\t embedding\t native\t bundle\t checkpoint\t' -d 'Format of the files'
complete -c cnsctl -n '__cnsctl_is export' -l rank -x -d 'Rank of the fitted LoRA (1 to 128)'
complete -c cnsctl -n '__cnsctl_is export' -l keys -x -a 'kohya\t diffusers\t' -d 'Names of the tensors of a LoRA'
complete -c cnsctl -n '__cnsctl_is export' -s o -l output -r -F -d 'A file, a folder, or - for the bytes of one file'
complete -c cnsctl -n '__cnsctl_is export' -l force -s f -d 'Overwrite existing files'
complete -c cnsctl -n '__cnsctl_is export' -l no-measure -d 'Do not measure the error removed through a fitted LoRA'
complete -c cnsctl -n '__cnsctl_is export' -l device -x -a 'auto\t cuda\t mps\t cpu\t' -d 'Where to compute; cuda:1 is the second GPU'
complete -c cnsctl -n '__cnsctl_is export' -l memory -x -a 'auto\t low\t lowest\t' -d 'Save memory, in exchange for time; auto: if the device has too little'
complete -c cnsctl -n '__cnsctl_is export' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is export' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is export' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is import' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is import' -l name -x -d 'Name of the concept'
complete -c cnsctl -n '__cnsctl_is import' -l class -x -d 'Class word after the token embeddings, or in their place if the file has none'
complete -c cnsctl -n '__cnsctl_is import' -l kv-only -d 'Leave out what the file changes beside K and V of cross-attention'
complete -c cnsctl -n '__cnsctl_is import' -l budget -x -d 'Share of the K/V weights that the concept may change (1e-06 to 1)'
complete -c cnsctl -n '__cnsctl_is import' -l rename -x -d 'Give a concept of a bundle another name; can be repeated'
complete -c cnsctl -n '__cnsctl_is import' -l replace -d 'Replace concepts of these names'
complete -c cnsctl -n '__cnsctl_is import' -l device -x -a 'auto\t cuda\t mps\t cpu\t' -d 'Where to compute; cuda:1 is the second GPU'
complete -c cnsctl -n '__cnsctl_is import' -l dtype -x -a 'auto\t fp32\t bf16\t fp16\t' -d 'Precision; fp16 only generates'
complete -c cnsctl -n '__cnsctl_is import' -l memory -x -a 'auto\t low\t lowest\t' -d 'Save memory, in exchange for time; auto: if the device has too little'
complete -c cnsctl -n '__cnsctl_is import' -l wait -x -d 'How long to wait for another process that writes to the store'
complete -c cnsctl -n '__cnsctl_is import' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is import' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is import' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is init' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is init' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is init' -l base -x -k -a '(__cnsctl_models)' -d 'Base model: a diffusers folder, a .safetensors checkpoint, OWNER/NAME[@REVISION] on the Hugging Face hub, or pocket'
complete -c cnsctl -n '__cnsctl_is init' -l copy -d 'Copy the base model into the store'
complete -c cnsctl -n '__cnsctl_is init' -l mode -x -a 'token\t prompt\t merged\t' -d 'token, prompt: apply the concepts named in the prompt; merged: apply all'
complete -c cnsctl -n '__cnsctl_is init' -l prediction -x -a 'epsilon\t v_prediction\t' -d 'What the denoiser predicts'
complete -c cnsctl -n '__cnsctl_is init' -l clip -x -a '(__fish_complete_directories (commandline -ct))' -d 'CLIP for CLIP-I and CLIP-T'
complete -c cnsctl -n '__cnsctl_is init' -l judge -x -a '(__fish_complete_directories (commandline -ct))' -d 'Second backbone for the similarity of images, such as DINOv2'
complete -c cnsctl -n '__cnsctl_is init' -l yes -s y -d 'Download without confirmation'
complete -c cnsctl -n '__cnsctl_is init' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is init' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is base' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is base' -l at -x -k -a '(__cnsctl_models)' -d 'Where the base model is now; another base model is refused'
complete -c cnsctl -n '__cnsctl_is base' -l estimate -d 'Estimate the memory of add and gen, without loading a weight'
complete -c cnsctl -n '__cnsctl_is base' -l clip -x -a '(__fish_complete_directories (commandline -ct))' -d 'CLIP for CLIP-I and CLIP-T'
complete -c cnsctl -n '__cnsctl_is base' -l judge -x -a '(__fish_complete_directories (commandline -ct))' -d 'Second backbone for the similarity of images, such as DINOv2'
complete -c cnsctl -n '__cnsctl_is base' -l dtype -x -a 'auto\t fp32\t bf16\t fp16\t' -d 'Precision; fp16 only generates'
complete -c cnsctl -n '__cnsctl_is base' -l yes -s y -d 'Download without confirmation'
complete -c cnsctl -n '__cnsctl_is base' -l wait -x -d 'How long to wait for another process that writes to the store'
complete -c cnsctl -n '__cnsctl_is base' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is base' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is base' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is mv' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is mv' -l unfinished -d 'Rename an interrupted training run; concepts stay'
complete -c cnsctl -n '__cnsctl_is mv' -l wait -x -d 'How long to wait for another process that writes to the store'
complete -c cnsctl -n '__cnsctl_is mv' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is mv' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is mv' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is rm' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is rm' -l all -d 'Remove every concept'
complete -c cnsctl -n '__cnsctl_is rm' -l unfinished -d 'Delete only the training state; concepts stay'
complete -c cnsctl -n '__cnsctl_is rm' -l purge -d 'Also delete their files, with the copies of images; undo is not possible'
complete -c cnsctl -n '__cnsctl_is rm' -l yes -s y -s f -d 'Do not ask for confirmation'
complete -c cnsctl -n '__cnsctl_is rm' -l wait -x -d 'How long to wait for another process that writes to the store'
complete -c cnsctl -n '__cnsctl_is rm' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is rm' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is rm' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is undo' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is undo' -l wait -x -d 'How long to wait for another process that writes to the store'
complete -c cnsctl -n '__cnsctl_is undo' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is undo' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is undo' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is check' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is check' -l read-data -d 'Read every byte and compare its SHA-256; otherwise names and sizes'
complete -c cnsctl -n '__cnsctl_is check' -l repair -d 'Make again what can be derived; move what cannot be read to damaged/; delete nothing'
complete -c cnsctl -n '__cnsctl_is check' -l wait -x -d 'How long to wait for another process that writes to the store'
complete -c cnsctl -n '__cnsctl_is check' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is check' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is check' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is gc' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is gc' -l dry-run -s n -d 'Delete nothing; print what would be deleted'
complete -c cnsctl -n '__cnsctl_is gc' -l wait -x -d 'How long to wait for another process that writes to the store'
complete -c cnsctl -n '__cnsctl_is gc' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is gc' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is gc' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is backup' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is backup' -l force -s f -d 'Overwrite existing files'
complete -c cnsctl -n '__cnsctl_is backup' -l with-base -d 'Also the base model, if it is outside the store'
complete -c cnsctl -n '__cnsctl_is backup' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is backup' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is backup' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is restore' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is restore' -l dry-run -s n -d 'Create nothing; read and check the file'
complete -c cnsctl -n '__cnsctl_is restore' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is restore' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is restore' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is migrate' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is migrate' -l dry-run -s n -d 'Change nothing; print what would be changed'
complete -c cnsctl -n '__cnsctl_is migrate' -l back -d 'Go back to the older format, if no concept has changed since'
complete -c cnsctl -n '__cnsctl_is migrate' -l wait -x -d 'How long to wait for another process that writes to the store'
complete -c cnsctl -n '__cnsctl_is migrate' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is migrate' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is migrate' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is doctor' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is doctor' -l paths -d 'Also print paths, and the names of machines and concepts in locks'
complete -c cnsctl -n '__cnsctl_is doctor' -l store -x -a '(__fish_complete_directories (commandline -ct))' -d 'The store'
complete -c cnsctl -n '__cnsctl_is doctor' -l json -d 'Print JSON, including errors (keys: docs/reference/json.md)'
complete -c cnsctl -n '__cnsctl_is doctor' -l quiet -s q -d 'Print bare names or paths, one per line; no progress'
complete -c cnsctl -n '__cnsctl_is completion' -s h -l help -d 'Show the help'
complete -c cnsctl -n '__cnsctl_is completion' -l install -d 'Write the script to the user'\''s folder of completions'
complete -c cnsctl -n '__cnsctl_is completion' -l uninstall -d 'Delete the script that --install wrote'
complete -c cnsctl -n '__cnsctl_is completion; and __cnsctl_wants choices' -a 'bash zsh fish'
complete -c cnsctl -n '__cnsctl_wants concept' -a '(__cnsctl_concepts)'
complete -c cnsctl -n '__cnsctl_wants prompt' -a '(__cnsctl_prompts)'
complete -c cnsctl -n '__cnsctl_wants file' -F
complete -c cnsctl -n '__cnsctl_wants folder' -a '(__fish_complete_directories (commandline -ct))'
complete -c cnsctl -n '__cnsctl_wants model' -k -a '(__cnsctl_models)'
