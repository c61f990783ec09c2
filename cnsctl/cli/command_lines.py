"""Command lines of this program, as text that a shell reads.

Owns the way back from arguments to options; must not know what commands do.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cnsctl.cli.options import flag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cnsctl.results import Arguments

IMAGES = "IMAGES"
"""In place of images that are not known."""


def add_line(name: str, arguments: Arguments | None, store: Path | None) -> str:
    """The `cnsctl add` that trains a concept.

    Args:
        name: of the concept.
        arguments: of its training; None if they are not known.
        store: as given by the user; None for the default one.
    """
    words = ["cnsctl", "add", name]
    if arguments is None:
        return _joined([*words, IMAGES], store)
    return _joined([*words, *(arguments.images or (IMAGES,)), *_options(arguments)], store)


def gen_line(prompt: str, store: Path | None) -> str:
    """The `cnsctl gen` of a prompt."""
    return f'cnsctl gen "{prompt}"' + _store(store)


def rm_line(name: str, store: Path | None) -> str:
    """The `cnsctl rm` that deletes a training state."""
    return _joined(["cnsctl", "rm", "--unfinished", name], store)


def _options(arguments: Arguments) -> Iterator[str]:
    if arguments.class_word is not None:
        yield from ("--class", arguments.class_word)
    if arguments.holdout:
        yield from ("--holdout", str(arguments.holdout))
    if arguments.masks is not None:
        yield from ("--masks", arguments.masks)
    switches = {
        "--recursive": arguments.recursive,
        "--replace": arguments.replace,
        "--no-preview": not arguments.preview,
        "--no-measure": not arguments.measure,
        "--allow-worse": arguments.allow_worse,
        "--allow-forgetting": arguments.allow_forgetting,
    }
    for name, value in arguments.settings.items():
        if isinstance(value, bool):
            switches[flag(name)] = value
        else:
            yield from (flag(name), str(value))
    yield from (name for name, is_on in switches.items() if is_on)


def _joined(words: list[str], store: Path | None) -> str:
    return shlex.join(words) + _store(store)


def _store(store: Path | None) -> str:
    return "" if store is None else f" --store {shlex.quote(str(store))}"
