"""Textual inversion: token embeddings in the one form that all programs read.

Owns the names and shapes of such files; must not know tokenizers.

| embeddings | tensors |
| --- | --- |
| one, one text encoder | the token as the name, one dimension |
| several, one text encoder | `emb_params`, (embeddings, width) |
| two text encoders (SDXL) | `clip_l` and `clip_g`, (embeddings, width) |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnsctl.errors import UsageError
from cnsctl.export_formats import DEFAULT_KEYS, ExportFormat
from cnsctl.formats import modelspec
from cnsctl.formats.contents import Incoming
from cnsctl.formats.foreign import table_of, token_of
from cnsctl.formats.tensor_file import FLOATS, Tensor
from cnsctl.key_names import Leaf, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.export_formats import KeyStyle
    from cnsctl.formats.contents import Outgoing
    from cnsctl.formats.tensor_file import Entry, Header, TensorFile

NAME = ExportFormat.EMBEDDING

ENCODERS: Mapping[str, str] = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
"""Tensor of a file for SDXL → text encoder."""

_SEVERAL = "emb_params"
_A1111 = "string_to_param."
_COUNTERS = ("string_to_token.", "step")
"""What A1111 keeps beside an embedding."""

_MAX_EMBEDDINGS = 77
"""More do not fit into a prompt of CLIP."""


def matches(header: Header) -> bool:
    """Are the tensors of a file with this header token embeddings?"""
    return _tables(header) is not None


def _tables(header: Header) -> dict[str, str] | None:
    """Text encoder → tensor; None if the file is of another format."""
    names = [name for name in header.entries if not name.startswith(_COUNTERS)]
    if not names or not all(_is_table(header.entries[name]) for name in names):
        return None
    if set(names) <= set(ENCODERS):
        return {ENCODERS[name]: name for name in sorted(names, reverse=True)}
    if len(names) == 1 and (_is_token(names[0]) or names[0].startswith(_A1111)):
        return {"text_encoder": names[0]}
    return None


def _is_table(entry: Entry) -> bool:
    few = len(entry.shape) == 1 or (len(entry.shape) == 2 and 1 <= entry.shape[0] <= _MAX_EMBEDDINGS)
    return few and entry.shape[-1] > 0 and entry.dtype in FLOATS


def _is_token(name: str) -> bool:
    """Any name, but not that of a weight of a model."""
    return (name.startswith("<") and name.endswith(">")) or ("." not in name and split(name)[1] is Leaf.OTHER)


def read(file: TensorFile, shapes: Mapping[str, tuple[int, int]]) -> Incoming:  # noqa: ARG001  one signature
    """Read token embeddings.

    Raises:
        DamagedFileError: a number is not finite, or two text encoders have different numbers of embeddings.
    """
    tables = _tables(file.header) or {}
    vectors = {encoder: table_of(file, name) for encoder, name in tables.items()}
    if len(set(map(len, vectors.values()))) > 1:
        raise file.damaged("the text encoders have different numbers of embeddings")
    return Incoming(
        format=str(NAME),
        weights={},
        shapes={},
        differences=False,
        vectors=vectors,
        token=token_of(file.metadata) or _token(tables),
        metadata=modelspec.readable(file.metadata),
    )


def _token(tables: Mapping[str, str]) -> str | None:
    """The token, if the name of the tensor is one."""
    name = next(iter(tables.values()), _SEVERAL)
    general = name in {_SEVERAL, *ENCODERS} or name.startswith(_A1111)
    return None if general or not name.isprintable() else name[:200]


def tensors(concept: Outgoing, keys: KeyStyle = DEFAULT_KEYS) -> list[Tensor]:  # noqa: ARG001  one style
    """The tensors of the file.

    Raises:
        UsageError: the base model has other text encoders than CLIP's one or two.
    """
    found = dict(concept.vectors)
    if len(found) == 1:
        (table,) = found.values()
        if len(table) == 1:
            return [_tensor(concept.token, table[0])]
        return [_tensor(_SEVERAL, table)]
    if set(found) != set(ENCODERS.values()):
        raise UsageError(f"no textual inversion file has the text encoders {', '.join(sorted(found)) or '(none)'}")
    return [_tensor(name, found[encoder]) for name, encoder in ENCODERS.items()]


def _tensor(name: str, values: NDArray[np.float16]) -> Tensor:
    return Tensor(name=name, shape=values.shape, dtype="F16", make=lambda: values)


def metadata(concept: Outgoing, keys: KeyStyle = DEFAULT_KEYS) -> dict[str, str]:  # noqa: ARG001
    """The texts of the file."""
    return modelspec.embedding(concept)
