"""Dense differences: W − W₀ of each site under kohya's names, as LyCORIS writes full training.

Owns the tensors of such a file; must not know where weights come from.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cnsctl.export_formats import DEFAULT_KEYS, ExportFormat
from cnsctl.formats import modelspec
from cnsctl.formats.contents import Incoming
from cnsctl.formats.foreign import by_site, check_shape, token_of
from cnsctl.formats.tensor_file import Tensor, shown
from cnsctl.key_names import Leaf, Stem, key_table, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.export_formats import KeyStyle
    from cnsctl.formats.contents import Outgoing
    from cnsctl.formats.tensor_file import Header, TensorFile

NAME = ExportFormat.DIFF


def matches(header: Header) -> bool:
    """Has a file with this header differences, and no factors beside them?"""
    leaves = {split(key)[1] for key in header.entries}
    return Leaf.DIFFERENCE in leaves and Leaf.DOWN not in leaves


def read(file: TensorFile, shapes: Mapping[str, tuple[int, int]]) -> Incoming:
    """Read the differences of the base model whose sites have these shapes.

    Raises:
        DamagedFileError, BaseModelError, UnknownFormatError: as `foreign.by_site`.
    """
    found = by_site(file, shapes)
    names = {}
    for site, parts in found.parts.items():
        if rest := set(parts) - {Leaf.DIFFERENCE, Leaf.ALPHA}:  # readers ignore alpha here
            raise file.damaged(f"{site}: a difference and another change: {shown(parts[min(rest)])}")
        if Leaf.DIFFERENCE not in parts:
            raise file.damaged(f"{site}: an alpha without a difference")
        names[site] = parts[Leaf.DIFFERENCE]
        check_shape(site, file.entries[names[site]].shape, shapes[site])
    return Incoming(
        format=str(NAME),
        weights={site: lambda name=name: file.read(name) for site, name in names.items()},  # type: ignore[misc]
        shapes={site: shapes[site] for site in names},
        differences=True,
        vectors={},
        token=token_of(file.metadata),
        also=found.also,
        metadata=modelspec.readable(file.metadata),
    )


def tensors(concept: Outgoing, keys: KeyStyle = DEFAULT_KEYS) -> list[Tensor]:  # noqa: ARG001  one style
    """The tensors of the file: exact up to the rounding of W − W₀ to fp16."""
    table = key_table(concept.shapes)

    def difference(site: str) -> NDArray[np.float32]:
        weights = concept.site(site)
        return weights.after - weights.before

    return [
        Tensor(
            name=f"{table.name(Stem.KOHYA, site)}.diff",
            shape=shape,
            dtype="F16",
            make=lambda site=site: difference(site),  # type: ignore[misc]
        )
        for site, shape in concept.shapes.items()
    ]


def metadata(concept: Outgoing, keys: KeyStyle = DEFAULT_KEYS) -> dict[str, str]:  # noqa: ARG001
    """The texts of the file."""
    arguments = {"ss_network_args": json.dumps({"algo": "full"})}
    return arguments | modelspec.adapter(concept, module="lycoris.kohya")
