"""What the two formats of whole K and V weights share: reading them, and the dtype that keeps them.

Owns these rules; must not know the names of tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnsctl.formats import modelspec
from cnsctl.formats.contents import Incoming
from cnsctl.formats.foreign import by_site, check_shape, token_of
from cnsctl.formats.tensor_file import Tensor, shown
from cnsctl.key_names import Leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cnsctl.formats.contents import Outgoing
    from cnsctl.formats.tensor_file import TensorFile


def read(
    file: TensorFile,
    shapes: Mapping[str, tuple[int, int]],
    *,
    format: str,  # noqa: A002
    skip: frozenset[str] = frozenset(),
    vectors: Mapping[str, NDArray[np.float32]] | None = None,
    token: str | None = None,
) -> Incoming:
    """Read whole weights of the base model whose sites have these shapes.

    Raises:
        DamagedFileError, BaseModelError, UnknownFormatError: as `foreign.by_site`.
    """
    found = by_site(file, shapes, skip=skip)
    names = {}
    for site, parts in found.parts.items():
        if set(parts) != {Leaf.WHOLE}:
            raise file.damaged(f"{site}: {shown(parts[min(parts)])} is not a whole weight")
        names[site] = parts[Leaf.WHOLE]
        check_shape(site, file.entries[names[site]].shape, shapes[site])
    return Incoming(
        format=format,
        weights={site: lambda name=name: file.read(name) for site, name in names.items()},  # type: ignore[misc]
        shapes={site: shapes[site] for site in names},
        differences=False,
        vectors=vectors or {},
        token=token_of(file.metadata) or token,
        also=found.also,
        metadata=modelspec.readable(file.metadata),
    )


def weight_tensors(concept: Outgoing, name: Callable[[str], str]) -> list[Tensor]:
    """The weights of all sites, in fp16 if that keeps every bit of them."""
    dtype = "F16" if all(_is_half(concept.site(site).after) for site in concept.shapes) else "F32"
    return [
        Tensor(
            name=name(site),
            shape=shape,
            dtype=dtype,
            make=lambda site=site: concept.site(site).after,  # type: ignore[misc]
        )
        for site, shape in concept.shapes.items()
    ]


def _is_half(values: NDArray[np.float32]) -> bool:
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16) == values).all())
