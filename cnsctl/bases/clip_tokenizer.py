"""The words of a base model's tokenizer, read from its files without loading a library.

Owns the reading of vocabularies; must not know concepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.bases.config_files import read_json
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
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


def _vocabulary(folder: Path) -> dict[str, int]:
    try:
        if (folder / "vocab.json").is_file():
            return read_json(folder / "vocab.json")
        return dict(read_json(folder / "tokenizer.json")["model"]["vocab"])
    except (KeyError, TypeError, ValueError) as err:
        raise BaseModelError(
            f"cannot read the vocabulary in {folder}: {err}", hint="restore the folder of the base model"
        ) from err
