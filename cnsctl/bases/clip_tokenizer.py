"""The words of a base model's tokenizer, read from its files without loading a library.

Owns the reading of vocabularies; must not know concepts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cnsctl.bases.config_files import read_json
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

END_OF_WORD = "</w>"
"""What CLIP's vocabulary appends to tokens that end a word."""


SMALL = 10_000
"""Tokens. A text encoder with fewer, such as pocket's, was trained on the whole words of a small world. CLIP's and T5's
vocabularies contain the parts of every word, so there a word need not be one token."""


def unknown_words(base: Path, words: str) -> list[str]:
    """The words that a base model with a small vocabulary cannot read: those that are not one whole token.

    Raises:
        BaseModelError: the vocabulary cannot be read.
    """
    folder = base / "tokenizer"
    if (folder / "spiece.model").is_file():  # T5's
        return []
    vocabulary = _vocabulary(folder)
    if len(vocabulary) >= SMALL:
        return []
    return [word for word in words.split() if word.lower() + END_OF_WORD not in vocabulary]


def added_tokens(base: Path) -> frozenset[str]:
    """Tokens that were added to the tokenizer's vocabulary, such as `<cat-toy>` of Textual Inversion, without start and end.

    Raises:
        BaseModelError: a file of the tokenizer cannot be read.
    """
    folder, found = base / "tokenizer", set[str]()
    for path, read in ((folder / file, read) for file, read in _ADDED.items()):
        try:
            if path.is_file():
                found |= read(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
            raise BaseModelError(
                f"cannot read the vocabulary in {path}: {err}", hint="restore the folder of the base model"
            ) from err
    return frozenset(found)


_ADDED: Mapping[str, Callable[[Any], set[str]]] = {
    "added_tokens.json": set,
    "tokenizer.json": lambda data: _contents(data.get("added_tokens", ())),
    "tokenizer_config.json": lambda data: _contents(data.get("added_tokens_decoder", {}).values()),
}
"""The files of a tokenizer that contain added tokens, as the versions of transformers write them."""


def _contents(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    return {entry["content"] for entry in entries if not entry.get("special")}


def _vocabulary(folder: Path) -> dict[str, int]:
    try:
        if (folder / "vocab.json").is_file():
            return read_json(folder / "vocab.json")
        return dict(read_json(folder / "tokenizer.json")["model"]["vocab"])
    except (KeyError, TypeError, ValueError) as err:
        raise BaseModelError(
            f"cannot read the vocabulary in {folder}: {err}", hint="restore the folder of the base model"
        ) from err
