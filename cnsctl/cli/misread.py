"""Arguments of `gen` that are not what they look like: words without quotes, files, redirections of the shell.

Owns the signs of a misreading; must not know what a prompt becomes.
"""

from __future__ import annotations

import shlex
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from cnsctl.cli.shell import redirected_concept
from cnsctl.errors import StoreNotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TEXTS = (".txt", ".text", ".csv", ".tsv", ".json", ".jsonl", ".md", ".yaml", ".yml", ".toml")
_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".heic")
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".bin", ".delta")
"""Suffixes of one-word arguments that are files, whether they exist or not."""


def refuse(prompts: Sequence[str], store: Path | None, *, force: bool) -> None:
    """Refuse prompts that are probably something else, before a store is opened.

    Args:
        prompts: as given; `-` is stdin.
        store: as given.
        force: `-f` was given, which other programs use for a file.

    Raises:
        UsageError: with what was probably meant.
    """
    _refuse_redirection(store, prompts)
    for prompt in prompts:
        if prompt != "-":
            _refuse_file(prompt, force=force)
    words = [prompt for prompt in prompts if prompt != "-"]
    if len(words) > 1 and not any(map(_is_whole, words)) and not all(map(_is_mention, words)):
        raise UsageError(
            f"{len(words)} prompts of one word each",
            note="the shell splits a prompt without quotes",
            hint=f"did you mean: cnsctl gen {_quoted(' '.join(words))}? Or give prompts of one word on standard input",
        )


def _is_whole(prompt: str) -> bool:
    """Whether a prompt is not one word: it has a space, or is in a script without capitals, which may need none."""
    return len(prompt.split()) > 1 or any(unicodedata.category(char) == "Lo" for char in prompt)


def _is_mention(word: str) -> bool:
    """Whether a word is a concept: `"<dog>" "<hat>"` are two prompts."""
    return word.startswith("@") or (word.startswith("<") and word.endswith(">"))


def _refuse_file(prompt: str, *, force: bool) -> None:
    """Refuse the name of a file: a word with the suffix of one, or a path to one that exists."""
    name = prompt.strip()
    suffix = Path(name).suffix.lower()
    if len(name) > 1000 or (" " in name and not _exists(name)):
        return
    if suffix not in (*_TEXTS, *_IMAGES, *_WEIGHTS) and not (_exists(name) and (suffix or "/" in name)):
        return
    note = "-f is --force: it overwrites existing files" if force and suffix in _TEXTS else None
    if suffix in _IMAGES:
        hint = f"to repeat an image: cnsctl gen --like {_quoted(name)}"
    elif suffix in _WEIGHTS:
        hint = f"to use a file of another program: cnsctl import {_quoted(name)}"
    else:
        hint = f"to read prompts from it: cnsctl gen - < {_quoted(name)}"
    raise UsageError(f"the prompt is the name of a file: {name!r}", note=note, hint=hint)


def _exists(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # too long for a name
        return False


def _quoted(text: str) -> str:
    """A word for the shell, in double quotes where that is enough, as in the help."""
    return f'"{text}"' if " " in text and not set(text) & set('"$`\\!') else shlex.quote(text)


def _refuse_redirection(store: Path | None, prompts: Sequence[str]) -> None:
    """Without quotes, `gen <dog> on a beach` makes the shell read a file `dog` and empty a file `on`."""
    if "-" in prompts or sys.stdin is None or sys.stdin.isatty():
        return
    try:
        name = redirected_concept(0, _names(store))
    except StoreNotFoundError:
        return
    if name is not None:
        raise UsageError(
            f"the shell read <{name}> as a redirection",
            note="a file named after > may have been emptied",
            hint=f'quote the prompt: cnsctl gen "<{name}> …", or write @{name} without quotes',
        )


def _names(store: Path | None) -> Iterator[str]:
    """Concepts of the store, which is opened when the first name is needed."""
    from cnsctl.app import concepts, stores

    yield from concepts.known_names(stores.open_store(store))
