"""Files of cnsctl itself: safetensors with one metadata key, `cnsctl`, and three dtypes.

Owns what is stricter than in other programs' files; must not know what the tensors mean.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnsctl.formats import canonical, tensor_file
from cnsctl.formats.tensor_file import METADATA, Tensor, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MAX_HEADER = 1 << 20
"""Bytes. SDXL's 140 sites take about 60 KB."""

_DTYPES: Mapping[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "U16": np.dtype("<u2"), "U8": np.dtype("u1")}
_KEY = "cnsctl"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnHeader:
    """The header of a file, whose tensors are not read yet."""

    meta: Mapping[str, object]
    """The JSON object under the key `cnsctl`."""
    entries: Mapping[str, object]
    """Per tensor: its entry, not checked yet."""
    body: int
    """Offset of the tensors, in bytes."""


def pack(meta: Mapping[str, object], tensors: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Write tensors (float16, uint16 or uint8) and one metadata object. Equal input gives equal bytes."""
    stream = io.BytesIO()
    labels = {dtype: label for label, dtype in _DTYPES.items()}
    wanted = [
        Tensor(name=name, shape=array.shape, dtype=labels[array.dtype], make=lambda array=array: array)  # type: ignore[misc]
        for name, array in tensors.items()
    ]
    tensor_file.write(stream, wanted, {_KEY: canonical.dump(meta).decode("ascii")})
    return stream.getvalue()


def read_header(data: bytes) -> OwnHeader:
    """Read the header of a whole file.

    Raises:
        ValueError: with the part that is wrong.
    """
    found, body = tensor_file.parse(data, len(data), max_header=MAX_HEADER)
    try:
        meta = _meta(tensor_file.texts(found.pop(METADATA, None)))
    except ValueError as err:
        raise ValueError(f"header: {err}") from err
    return OwnHeader(meta=meta, entries=found, body=body)


def metadata_of(texts: Mapping[str, str]) -> Mapping[str, object] | None:
    """The object that `pack` wrote into the metadata of a header, or None if another program wrote it."""
    try:
        return _meta(texts)
    except ValueError:
        return None


def read_tensors(data: bytes, header: OwnHeader) -> dict[str, NDArray[np.generic]]:
    """Read the tensors, as views into the data.

    Raises:
        ValueError: a dtype or shape is not supported, or the tensors do not fill the file without gaps.
    """
    entries = tensor_file.checked(header.entries, len(data) - header.body)
    found = {}
    for name, entry in entries.items():
        if entry.dtype not in _DTYPES or not 1 <= len(entry.shape) <= 2:
            raise ValueError(f"tensor {shown(name)}: {entry.dtype} of {len(entry.shape)} dimensions")
        flat = np.frombuffer(data, np.uint8)[header.body + entry.begin : header.body + entry.end]
        found[name] = flat.view(_DTYPES[entry.dtype]).reshape(entry.shape)
    return found


def _meta(texts: Mapping[str, str]) -> dict[str, object]:
    if set(texts) != {_KEY}:
        raise ValueError(f"metadata: it must be exactly one text, {_KEY!r}")
    return canonical.parse_object(texts[_KEY].encode("utf-8"))
