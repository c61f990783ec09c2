"""The vocabulary: every word that the world uses, or may use later, is one token; all else is spelled in pieces.

Owns the word list and the byte-level BPE; must not know models.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pocket.errors import PocketError
from pocket.training.events import Event
from pocket.training.work import replace_folder
from pocket.weights import CONTEXT
from pocket.world.colours import COLOURS
from pocket.world.looks import ACCESSORIES, PATTERNS
from pocket.world.places import PLACES, PLAIN
from pocket.world.styles import STYLES
from pocket.world.things import THINGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pocket.training.work import Work

LATER = (
    "bear bee bird boat bus butterfly cow crab deer dolphin dragon duck eagle goat koala monkey mouse octopus panda "
    "pig rooster shark snail snake tiger turtle unicorn whale wolf airplane bicycle motorcycle ship sailboat taxi "
    "tractor train truck tent fountain flower rose sunflower tulip banana carrot cake cup bottle strawberry pear "
    "pineapple pizza hamburger doughnut watermelon backpack bag bell book camera chair clock dress drum ghost gift "
    "guitar hat helmet key lamp plant pot shoe snowman star statue teapot toy umbrella vase violin cap straw teddy"
)
GRAMMAR = (
    "a an the of on in at under and next to left right with wearing from photo picture drawing image painting style "
    "sticker background one two three my your its small big little tiny large old new happy sad sitting standing "
    "front behind near over top bottom center side day night winter summer spring morning sky cloud clouds sea sun "
    "moon star stars rain field garden street bridge lake river park kitchen table floor wall window spotted striped "
    "patched plain dark light bright soft"
)
END_OF_WORD = "</w>"
END_OF_TEXT = "<|endoftext|>"


def make_tokenizer(work: Work) -> Iterator[Event]:
    """Write WORK/tokenizer, unless there is one here or to start from."""
    if work.has("tokenizer") or work.init_has("tokenizer"):
        yield Event(stage="tokenizer", text="kept")
        return
    replace_folder(work.path("tokenizer"), write_tokenizer)
    yield Event(stage="tokenizer", text=f"{len(words())} words are one token each")


def words() -> list[str]:
    """Everything that must be one token, sorted."""
    tables = (*THINGS, *PLACES, *STYLES, *ACCESSORIES, *COLOURS, *PATTERNS, *PLAIN, LATER, GRAMMAR)
    return sorted(set(" ".join(tables).split()))


def write_tokenizer(out: Path) -> None:
    """Train the vocabulary and write it as a stock `CLIPTokenizer` folder.

    Tokens and merges are always the same ones, but the library orders equally frequent ones at random, and with them
    the ids: the tokenizer is made once, and every later stage and training keeps it.
    """
    from transformers import CLIPTokenizer

    vocabulary, merges = _trained()
    out.mkdir(parents=True)
    (out / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (out / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(out, model_max_length=CONTEXT, pad_token=END_OF_TEXT)
    tokenizer.save_pretrained(out)
    (out / "vocab.json").unlink()
    (out / "merges.txt").unlink()
    _without_traces(out / "tokenizer_config.json")
    tokenizer = CLIPTokenizer.from_pretrained(out)
    if broken := [word for word in words() if len(tokenizer.tokenize(word)) != 1]:
        raise PocketError(
            f"the tokenizer spells {broken[0]!r} in pieces", hint="raise vocab_size in the tokenizer stage"
        )


def _trained() -> tuple[dict[str, int], list[str]]:
    """Ids by token, and the merges in order."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    split = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=2,
        special_tokens=["<|startoftext|>", END_OF_TEXT],
        initial_alphabet=alphabet,
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(words())] * 20, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    for character in alphabet:  # every byte can also end a word
        vocabulary.setdefault(character + END_OF_WORD, len(vocabulary))
    return vocabulary, [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]


def _without_traces(path: Path) -> None:
    """Drop what says where and how the folder was loaded."""
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in ("is_local", "local_files_only")}
    path.write_text(json.dumps(kept, indent=2), encoding="utf-8")
