"""Custom Diffusion: whole K and V weights as the processors of diffusers.

diffusers replaces the processors of all attention layers at once, so the file also names those of self-attention, with a
tensor of no numbers each. Without them its loader refuses the file.

Owns the tensors of such a file; must not know where weights come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnsctl.export_formats import DEFAULT_KEYS, ExportFormat
from cnsctl.formats import modelspec, whole
from cnsctl.formats.tensor_file import Tensor
from cnsctl.key_names import Leaf, Stem, key_table, self_attention_processor, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.export_formats import KeyStyle
    from cnsctl.formats.contents import Incoming, Outgoing
    from cnsctl.formats.tensor_file import Header, TensorFile

NAME = ExportFormat.CUSTOM_DIFFUSION

FILE_NAME = "pytorch_custom_diffusion_weights.safetensors"
"""Where diffusers looks for it."""

_ENDING = "_custom_diffusion.weight"


def matches(header: Header) -> bool:
    """Has a file with this header weights of Custom Diffusion's processors, and no factors beside them?"""
    has_factors = any(split(key)[1] in {Leaf.DOWN, Leaf.DIFFERENCE} for key in header.entries)
    return not has_factors and any(key.endswith(_ENDING) for key in header.entries)


def read(file: TensorFile, shapes: Mapping[str, tuple[int, int]]) -> Incoming:
    """Read the weights of the base model whose sites have these shapes.

    Raises:
        DamagedFileError, BaseModelError, UnknownFormatError: as `foreign.by_site`.
    """
    empty = frozenset(key for key, entry in file.entries.items() if entry.begin == entry.end)
    return whole.read(file, shapes, format=str(NAME), skip=empty)


def tensors(concept: Outgoing, keys: KeyStyle = DEFAULT_KEYS) -> list[Tensor]:  # noqa: ARG001  one style
    """The tensors of the file: exact."""
    table = key_table(concept.shapes)
    weights = whole.weight_tensors(concept, lambda site: table.name(Stem.DIFFUSERS_PROCESSOR, site) + _ENDING)
    others = {self_attention_processor(site) for site in concept.shapes} - {None}
    empty = [
        Tensor(name=str(name), shape=(0,), dtype=weights[0].dtype, make=lambda: np.empty(0, np.float32))
        for name in others
    ]
    return weights + empty


def metadata(concept: Outgoing, keys: KeyStyle = DEFAULT_KEYS) -> dict[str, str]:  # noqa: ARG001
    """The texts of the file."""
    return modelspec.weights(concept)
