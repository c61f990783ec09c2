"""Whole K and V weights under their names in diffusers, for `unet.load_state_dict(…, strict=False)`.

The first form of Custom Diffusion is read too: the same weights, and a token embedding for each modifier token.

Owns the tensors of such a file; must not know where weights come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.export_formats import DEFAULT_KEYS, ExportFormat
from cnsctl.formats import modelspec, whole
from cnsctl.formats.foreign import table_of
from cnsctl.key_names import Leaf, is_keys_or_values, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.export_formats import KeyStyle
    from cnsctl.formats.contents import Incoming, Outgoing
    from cnsctl.formats.tensor_file import Header, Tensor, TensorFile

NAME = ExportFormat.KV

_MODIFIER = "modifier_token."


def matches(header: Header) -> bool:
    """Has a file with this header weights of cross-attention, K or V among them, and no others?"""
    weights = [key for key in header.entries if not key.startswith(_MODIFIER)]
    return all(_is_cross_attention(key) for key in weights) and any(is_keys_or_values(split(key)[0]) for key in weights)


def _is_cross_attention(key: str) -> bool:
    return ".attn2." in key and ".processor." not in key and split(key)[1] in {Leaf.WHOLE, Leaf.OTHER}


def read(file: TensorFile, shapes: Mapping[str, tuple[int, int]]) -> Incoming:
    """Read the weights of the base model whose sites have these shapes.

    Raises:
        DamagedFileError, BaseModelError, UnknownFormatError: as `foreign.by_site`.
    """
    modifiers = [key for key in file.entries if key.startswith(_MODIFIER)]
    if len(modifiers) != 1:  # several concepts in one file: a concept has one token
        return whole.read(file, shapes, format=str(NAME))
    (key,) = modifiers
    vectors = {"text_encoder": table_of(file, key)}
    token = key.removeprefix(_MODIFIER)
    return whole.read(
        file,
        shapes,
        format=str(NAME),
        skip=frozenset(modifiers),
        vectors=vectors,
        token=token[:200] if token.isprintable() else None,
    )


def tensors(concept: Outgoing, keys: KeyStyle = DEFAULT_KEYS) -> list[Tensor]:  # noqa: ARG001  one style
    """The tensors of the file: exact."""
    return whole.weight_tensors(concept, lambda site: f"{site}.weight")


def metadata(concept: Outgoing, keys: KeyStyle = DEFAULT_KEYS) -> dict[str, str]:  # noqa: ARG001
    """The texts of the file."""
    return modelspec.weights(concept)
