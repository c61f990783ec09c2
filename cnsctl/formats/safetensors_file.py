"""The safetensors container: a deterministic writer and a strict reader.

Owns header, offsets and dtypes of a file with one metadata key, `cnsctl`; must not know what the tensors mean.

The writer of the safetensors library orders metadata at random, and its reader accepts duplicate names. It accepts every
file that this reader accepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from cnsctl.formats import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MAX_HEADER = 1 << 20
"""Bytes. SDXL's 140 sites take about 60 KB."""

_DTYPES: Mapping[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "U16": np.dtype("<u2"), "U8": np.dtype("u1")}
METADATA = "__metadata__"
"""Key of the texts in a safetensors header."""

_KEY = "cnsctl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of a file, whose tensors are not read yet."""

    meta: Mapping[str, object]
    """The JSON object under the key `cnsctl`."""
    entries: Mapping[str, object]
    """Per tensor: its entry, not checked yet."""
    body: int
    """Offset of the tensors, in bytes."""


def pack(meta: Mapping[str, object], tensors: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Write tensors (float16, uint16 or uint8) and one metadata object. Equal input gives equal bytes."""
    entries: dict[str, object] = {METADATA: {_KEY: canonical.dump(meta).decode("ascii")}}
    pieces, offset = [], 0
    for name in sorted(
        tensors, key=lambda n: (-tensors[n].dtype.itemsize, n)
    ):  # wide dtypes first, so that all are aligned
        label = next(label for label, dtype in _DTYPES.items() if dtype == tensors[name].dtype)
        piece = np.ascontiguousarray(tensors[name], _DTYPES[label]).tobytes()
        entries[name] = {"dtype": label, "shape": tensors[name].shape, "data_offsets": [offset, offset + len(piece)]}
        offset += len(piece)
        pieces.append(piece)
    header = canonical.dump(entries)
    header += b" " * (-len(header) % 8)
    return b"".join([len(header).to_bytes(8, "little"), header, *pieces])


def read_header(data: bytes) -> Header:
    """Read the header of a whole file.

    Raises:
        ValueError: with the part that is wrong.
    """
    entries, body = read_json(data)
    try:
        meta = _meta(entries.pop(METADATA, None))
    except ValueError as err:
        raise ValueError(f"header: {err}") from err
    return Header(meta=meta, entries=entries, body=body)


def read_json(data: bytes) -> tuple[dict[str, object], int]:
    """Read the header of any safetensors file: its JSON object, and the offset of the tensors in bytes.

    Raises:
        ValueError: it is not one.
    """
    n_header = int.from_bytes(data[:8], "little")
    if len(data) < 8 or n_header > min(MAX_HEADER, len(data) - 8):
        raise ValueError(f"header: {n_header} bytes announced in a file of {len(data)}, {MAX_HEADER} allowed")
    raw = data[8 : 8 + n_header]
    if not raw.startswith(b"{"):
        raise ValueError("header: not a JSON object")
    try:
        return canonical.parse_object(raw), 8 + n_header
    except ValueError as err:
        raise ValueError(f"header: {err}") from err


def metadata_of(header: Mapping[str, object]) -> Mapping[str, object] | None:
    """The metadata that `pack` wrote into a header, or None if another program wrote it."""
    try:
        return _meta(header.get(METADATA))
    except ValueError:
        return None


def read_tensors(data: bytes, header: Header) -> dict[str, NDArray[np.generic]]:
    """Read the tensors, as views into the data.

    Raises:
        ValueError: a dtype or shape is not supported, or the tensors do not fill the file without gaps.
    """
    found, spans = {}, []
    for name, entry in header.entries.items():
        dtype, shape, begin, end = _entry(name, entry)
        n_bytes = prod(shape) * dtype.itemsize
        if end - begin != n_bytes or header.body + end > len(data):
            raise ValueError(f"tensor {name[:80]!r}: bytes {begin} to {end} do not hold shape {list(shape)}")
        spans.append((begin, end))
        flat = np.frombuffer(data, np.uint8)[header.body + begin : header.body + end]
        found[name] = flat.view(dtype).reshape(shape)
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise ValueError(f"offsets: a tensor begins at byte {begin}, the previous one ends at {reached}")
        reached = end
    if header.body + reached != len(data):
        raise ValueError(f"length: the tensors end at byte {header.body + reached}, the file at {len(data)}")
    return found


def _meta(held: object) -> dict[str, object]:
    if not isinstance(held, dict) or set(held) != {_KEY} or not isinstance(held[_KEY], str):
        raise ValueError(f"metadata: it must be exactly one text, {_KEY!r}")
    return canonical.parse_object(held[_KEY].encode("utf-8"))


def _entry(name: str, entry: object) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    wrong = ValueError(f"tensor {name[:80]!r}: its entry in the header is malformed")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise wrong
    label, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(label, str) or label not in _DTYPES or not _is_counts(shape) or not _is_counts(offsets):
        raise wrong
    if not 1 <= len(shape) <= 2 or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise wrong
    return _DTYPES[label], tuple(shape), offsets[0], offsets[1]


def _is_counts(value: object) -> bool:
    """Is it a list of integers from 0 to 2⁴⁸? Products of two do not overflow in numpy."""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in value)
