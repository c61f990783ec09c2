"""The safetensors container: a deterministic writer that streams, and a strict reader.

The safetensors library writes metadata in random order, needs all tensors in memory, and accepts duplicate names. It
reads every file that this module writes or accepts.

Owns header, offsets and dtypes; must not know what the tensors mean.
"""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from cnsctl.errors import CnsctlError, DamagedFileError, DiskError, UnknownFormatError
from cnsctl.formats import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

METADATA = "__metadata__"
"""Key of the texts in a safetensors header."""

MAX_HEADER = 16 << 20
"""Bytes. A LoRA of the whole UNet of SDXL takes about 400 KB, and kohya's texts some 100 KB."""

MAX_ENTRIES = 1 << 16
"""Tensors in a file. A checkpoint of SDXL has about 2,500."""

_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""Bits of a number of each dtype in safetensors headers."""

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Dtypes that weights are read from."""

_WRITTEN: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
}  # fmt: skip
_READ: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
}  # fmt: skip
_INTEGERS: Mapping[str, np.dtype[Any]] = {"I64": np.dtype("<i8"), "I32": np.dtype("<i4")}
"""Dtypes of single numbers beside those of weights: torch.tensor(8) is one of I64."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """A tensor to write, which is made when its turn comes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """`F32`, `F16`, `U16` or `U8`."""
    make: Callable[[], NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where a tensor is in a file, and what it is."""

    dtype: str
    shape: tuple[int, ...]
    begin: int = 0
    end: int = 0
    """Bytes after the header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a format is recognized by."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    """Per tensor; empty for a file that is not a safetensors file."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    start: bytes = b""
    """The first bytes of the file."""


def write(stream: BinaryIO, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file, one tensor in memory at a time. Equal input gives equal bytes.

    Raises:
        CnsctlError: a number is not finite in the dtype of its tensor.
    """
    ordered, head = _laid_out(tensors, metadata)
    stream.write(head)
    stream.writelines(_encoded(tensor) for tensor in ordered)


def byte_size(tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> int:
    """How many bytes `write` writes. No tensor is made for it."""
    return len(_laid_out(tensors, metadata)[1]) + sum(map(_n_bytes, tensors))


def _laid_out(tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> tuple[list[Tensor], bytes]:
    """The tensors in the order of the file, and the bytes before them."""
    entries: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
    # wide dtypes first, so that all are aligned
    ordered = sorted(tensors, key=lambda tensor: (-_WRITTEN[tensor.dtype].itemsize, tensor.name))
    offset = 0
    for tensor in ordered:
        if tensor.name in entries:
            raise ValueError(f"two tensors are called {tensor.name!r}")
        end = offset + _n_bytes(tensor)
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    header = canonical.dump(entries)
    header += b" " * (-len(header) % 8)
    return ordered, len(header).to_bytes(8, "little") + header


def _n_bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * _WRITTEN[tensor.dtype].itemsize


def _encoded(tensor: Tensor) -> bytes:
    made = tensor.make()
    if made.shape != tensor.shape:
        raise ValueError(f"{tensor.name}: announced as {tensor.shape}, made as {made.shape}")
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(made, _WRITTEN[tensor.dtype])
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise CnsctlError(f"cannot write {tensor.name}: a number is not finite in {tensor.dtype}")
    return found.tobytes()


def parse(data: bytes, length: int, *, max_header: int = MAX_HEADER) -> tuple[dict[str, object], int]:
    """Read the JSON of a header, its entries not checked, and the offset of the tensors in bytes.

    Args:
        data: the file, or its beginning with at least the header.
        length: bytes of the whole file.
        max_header: bytes that the header may have.

    Raises:
        ValueError: it is not the header of a safetensors file.
    """
    n_header = int.from_bytes(data[:8], "little")
    if length < 8 or n_header > min(max_header, length - 8):
        raise ValueError(f"header: {n_header} bytes announced in a file of {length}, {max_header} allowed")
    raw = data[8 : 8 + n_header]
    if not raw.startswith(b"{"):
        raise ValueError("header: not a JSON object")
    try:
        return canonical.parse_object(raw), 8 + n_header
    except ValueError as err:
        raise ValueError(f"header: {err}") from err


def checked(found: Mapping[str, object], n_bytes: int) -> dict[str, Entry]:
    """The entries of a header without its metadata, if they fill a file without gaps.

    Args:
        found: per tensor, its entry in the JSON.
        n_bytes: of the tensors, by the length of the file.

    Raises:
        ValueError: an entry is malformed, or the tensors overlap, leave gaps, or do not end with the file.
    """
    if len(found) > MAX_ENTRIES:
        raise ValueError(f"header: {len(found)} tensors, {MAX_ENTRIES} allowed")
    entries = {name: _entry(name, value) for name, value in found.items()}
    reached = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != reached:
            raise ValueError(f"offsets: a tensor begins at byte {entry.begin}, the previous one ends at {reached}")
        reached = entry.end
    if reached != n_bytes:
        raise ValueError(f"length: the tensors end at byte {reached}, the file at {n_bytes} after the header")
    return entries


def _entry(name: str, value: object) -> Entry:
    wrong = f"tensor {shown(name)}: its entry in the header is malformed"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(wrong)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS or not _is_counts(shape) or not _is_counts(offsets):
        raise ValueError(wrong)
    if len(shape) > 8 or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(wrong)
    if (offsets[1] - offsets[0]) * 8 != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"tensor {shown(name)}: bytes {offsets[0]} to {offsets[1]} do not hold shape {shape}")
    return Entry(dtype=dtype, shape=tuple(shape), begin=offsets[0], end=offsets[1])


def _is_counts(value: object) -> bool:
    """Is it a list of integers from 0 to 2⁴⁸?"""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in value)


def texts(value: object) -> dict[str, str]:
    """The metadata of a header.

    Raises:
        ValueError: it is not an object of texts.
    """
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("metadata: not an object of texts")
    return value


def shown(name: str) -> str:
    """A name from a file, in quotes: short, and without control characters."""
    return repr(name[:80])


class TensorFile:
    """A safetensors file that is open for reading. It is read by one thread at a time.

    Args:
        stream: the file.
        shown: what messages call it.

    Raises:
        DamagedFileError: when it is created: it is not a safetensors file, or not as a program writes it.
    """

    def __init__(self, stream: BinaryIO, shown: str = "the file") -> None:
        self._stream, self._shown = stream, shown
        length = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        first = stream.read(8)
        head = first + stream.read(min(int.from_bytes(first, "little"), MAX_HEADER))
        try:
            found, self._body = parse(head, length)
            metadata = texts(found.pop(METADATA, None))
            entries = checked(found, length - self._body)
        except ValueError as err:
            raise self.damaged(err) from err
        self.header = Header(entries=entries, metadata=metadata, start=head[:64])

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Per tensor: dtype, shape and place."""
        return self.header.entries

    @property
    def metadata(self) -> Mapping[str, str]:
        """The texts in the header."""
        return self.header.metadata

    def read(self, name: str) -> NDArray[np.float32]:
        """Read one tensor as float32; F64, F32, F16 and BF16 can be read.

        Raises:
            UnknownFormatError: another dtype.
            DamagedFileError: a number is not finite, or the file is now shorter.
        """
        entry = self.entries[name]
        if entry.dtype not in FLOATS:
            raise UnknownFormatError(
                f"unsupported dtype in {self._shown}: {entry.dtype}",
                note=f"tensor {shown(name)}; weights are read in {', '.join(sorted(FLOATS))}",
                hint="save the file in fp16 with the program that wrote it",
            )
        found = np.frombuffer(self._bytes(name), _READ[entry.dtype])
        if entry.dtype == "BF16":  # the upper half of a float32
            found = (found.astype("<u4") << 16).view("<f4")
        with np.errstate(over="ignore"):
            values: NDArray[np.float32] = found.astype(np.float32).reshape(entry.shape)
        if not np.isfinite(values).all():
            raise self.damaged(f"tensor {shown(name)}: a number is not finite")
        return values

    def number(self, name: str) -> float:
        """Read a tensor of one number, which may be an integer: the alpha of a LoRA.

        Raises:
            UnknownFormatError: another dtype.
            DamagedFileError: not one number, or not finite, or the file is now shorter.
        """
        entry = self.entries[name]
        if math.prod(entry.shape) != 1:
            raise self.damaged(f"tensor {shown(name)}: not one number")
        if entry.dtype in _INTEGERS:
            return float(np.frombuffer(self._bytes(name), _INTEGERS[entry.dtype])[0])
        return float(self.read(name).reshape(()))

    def _bytes(self, name: str) -> bytes:
        entry = self.entries[name]
        try:
            self._stream.seek(self._body + entry.begin)
            raw = self._stream.read(entry.end - entry.begin)
        except OSError as err:  # it does not name the file
            raise DiskError(
                f"cannot read {self._shown}: {err.strerror}", hint="check its disk, or use another copy"
            ) from err
        if len(raw) != entry.end - entry.begin:
            raise self.damaged(f"tensor {shown(name)}: the file ends inside it")
        return raw

    def damaged(self, reason: object) -> DamagedFileError:
        """The error of a file that is not as a program writes it."""
        return DamagedFileError(f"{self._shown} is damaged: {reason}", hint="download it or export it again")


@contextmanager
def open_file(path: Path) -> Iterator[TensorFile]:
    """Open a safetensors file and check its header.

    Raises:
        OSError: it cannot be opened.
        DamagedFileError: as `TensorFile`.
    """
    with path.open("rb") as stream:
        yield TensorFile(stream, str(path))
