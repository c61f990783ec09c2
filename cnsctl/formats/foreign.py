"""What the readers of other programs' files share: from the names of tensors to the sites of a base model.

Owns the sorting of tensors; must not know what each format holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.errors import BaseModelError, UnknownFormatError
from cnsctl.formats import modelspec
from cnsctl.formats.tensor_file import shown
from cnsctl.key_names import ALGORITHMS, Leaf, is_keys_or_values, key_table, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.formats.tensor_file import TensorFile
    from cnsctl.key_names import KeyTable

    Shapes = Mapping[str, tuple[int, int]]


_MOST_NUMBERS = 1 << 20
"""In token embeddings: 77 of them, which fill a prompt of CLIP, are at most 13,617 wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """The tensors of a file by site."""

    parts: Mapping[str, Mapping[Leaf, str]]
    """Per site: the tensor of each leaf."""
    also: tuple[str, ...]
    """What else the file changes."""


def by_site(file: TensorFile, shapes: Shapes, *, skip: frozenset[str] = frozenset()) -> Sorted:
    """Sort the tensors of a file.

    Args:
        file: the file.
        shapes: of the base model's sites.
        skip: tensors that a format reads in another way.

    Raises:
        BaseModelError: the file was made for another base model.
        DamagedFileError: two tensors are the same part of one site.
        UnknownFormatError: a site is changed in a way that cannot be read.
    """
    table = key_table(shapes)
    parts: dict[str, dict[Leaf, str]] = {}
    also: set[str] = set()
    for key in sorted(set(file.entries) - skip):
        _refuse_algorithm(table, key)
        stem, leaf = split(key)
        site = table.site(stem)
        if site is None:
            if leaf is not Leaf.OTHER and is_keys_or_values(stem):
                raise other_base(f"it contains {shown(stem)}, which the base model does not have")
            also.add(_readable(stem))
        elif leaf is Leaf.OTHER:
            also.add(_readable(key))
        elif leaf in parts.setdefault(site, {}):
            raise file.damaged(f"{shown(key)} and {shown(parts[site][leaf])} are the same part of one weight")
        else:
            parts[site][leaf] = key
    return Sorted(parts=parts, also=tuple(sorted(also)))


def _refuse_algorithm(table: KeyTable, key: str) -> None:
    """Refuse a method whose change of a site is not a plain difference."""
    for ending, name in ALGORITHMS.items():
        if key.endswith(ending) and table.site(key.removesuffix(ending)) is not None:
            raise UnknownFormatError(
                f"unsupported file: its K and V weights are changed by {name}",
                note="LoRA, full differences and whole weights can be read",
                hint="merge it into its base model with the program that wrote it",
                reason="unknown-format",
            )


def _readable(name: str) -> str:
    """A name for messages: printable, and of bounded length."""
    return name[:200] if name.isprintable() else shown(name)


def other_base(note: str) -> BaseModelError:
    """The error of a file that was made for another base model."""
    return BaseModelError(
        "the file was made for another base model",
        note=note,
        hint="use the base model that the file was made for",
        reason="other-base-file",
    )


def check_shape(site: str, found: tuple[int, ...], wanted: tuple[int, int]) -> None:
    """Compare the shape of a weight in a file with the base model's."""
    if found != wanted:
        raise other_base(f"{site}: {_times(found)} in the file, {_times(wanted)} in the base model")


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def token_of(metadata: Mapping[str, str]) -> str | None:
    """What names the concept in a file that cnsctl exported."""
    return modelspec.readable(metadata).get(modelspec.TOKEN)


def table_of(file: TensorFile, name: str) -> NDArray[np.float32]:
    """Token embeddings, (embeddings, width).

    Raises:
        DamagedFileError: the tensor is not a vector or a table.
    """
    shape = file.entries[name].shape
    if len(shape) not in {1, 2} or not 0 < math.prod(shape) <= _MOST_NUMBERS:
        raise file.damaged(f"tensor {shown(name)}: {_times(shape)} is not the shape of token embeddings")
    values = file.read(name)
    return values.reshape(-1, values.shape[-1])
