"""File formats: bytes to values and back. What is read is checked in full.

Owns the list of interchange formats, in which concepts are exchanged with other programs; must not know the store.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from cnsctl.errors import DamagedFileError, StoreDamagedError, UnknownFormatError
from cnsctl.export_formats import ExportFormat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cnsctl.concept import Delta
    from cnsctl.export_formats import KeyStyle
    from cnsctl.formats.bundle import Bundle
    from cnsctl.formats.contents import Incoming, Outgoing
    from cnsctl.formats.tensor_file import Header, Tensor, TensorFile

FORMATS = [
    "cnsctl.formats.bundle",
    "cnsctl.formats.delta",
    "cnsctl.formats.lora",
    "cnsctl.formats.custom_diffusion",
    "cnsctl.formats.diff",
    "cnsctl.formats.kv",
    "cnsctl.formats.embedding",
]
"""Modules of the formats that are read, in the order of detection. They are imported when used, because they need numpy."""

WRITERS: Mapping[ExportFormat, str] = {
    ExportFormat.LORA: "cnsctl.formats.lora",
    ExportFormat.LORA_EXACT: "cnsctl.formats.lora_exact",
    ExportFormat.DIFF: "cnsctl.formats.diff",
    ExportFormat.KV: "cnsctl.formats.kv",
    ExportFormat.CUSTOM_DIFFUSION: "cnsctl.formats.custom_diffusion",
    ExportFormat.EMBEDDING: "cnsctl.formats.embedding",
}
"""Modules of the formats that are written from weights and token embeddings."""

_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_N_START = 64
_NOT_THE_FILE: Mapping[bytes, str] = {
    b"version https://git-lfs": "it is a git-lfs pointer, not the file itself; git lfs pull downloads the file",
    b"<!doctype html": "it is a web page; the download needs a login, or the link leads to a page about the file",
    b"<html": "it is a web page; the download needs a login, or the link leads to a page about the file",
}
"""What people have instead of a file, by its first bytes in lower case."""

_WHOLE_MODEL = ("model.diffusion_model.", "first_stage_model.", "conv_in.", "conditioner.embedders.")
"""First parts of names of tensors that only a checkpoint or a whole UNet has."""


class Format(Protocol):
    """What the module of each format that is read has."""

    NAME: ExportFormat

    def matches(self, header: Header, /) -> bool:
        """Is a file with this header of this format? Keys, shapes and texts decide."""


class Reader(Format, Protocol):
    """What the module of a format of other programs has."""

    def read(self, file: TensorFile, shapes: Mapping[str, tuple[int, int]], /) -> Incoming:
        """Read a file for the base model whose sites have these shapes. The weights are read when they are needed."""


class Writer(Protocol):
    """What the module of a format that is written from weights has; `tensor_file.write` writes the file."""

    def tensors(self, concept: Outgoing, keys: KeyStyle = ..., /) -> list[Tensor]:
        """The tensors of the file."""

    def metadata(self, concept: Outgoing, keys: KeyStyle = ..., /) -> dict[str, str]:
        """The texts in its header."""


def writer(name: ExportFormat) -> Writer:
    """The module that writes a format."""
    return cast("Writer", import_module(WRITERS[name]))


def detect(path: Path) -> Format:
    """Find the format of a file by its contents.

    Raises:
        OSError: the file cannot be read.
        UnknownFormatError: no format that cnsctl reads; the file may be intact.
        DamagedFileError: a safetensors file that is not as a program writes it.
    """
    header = _header(path)
    for name in FORMATS:
        found = cast("Format", import_module(name))
        if found.matches(header):
            return found
    known = ", ".join(name.rpartition(".")[2].replace("_", "-") for name in FORMATS)
    raise UnknownFormatError(
        f"unknown format: {path}",
        note=_what_it_is(header) or f"known formats, by the names of tensors: {known}",
        hint="give a delta, a bundle, a textual inversion, or a safetensors file of K and V of cross-attention",
        reason="unknown-format",
    )


@contextmanager
def opened(path: Path, shapes: Mapping[str, tuple[int, int]]) -> Iterator[Delta | Bundle | Incoming]:
    """Open a file of any format: a `Delta` (native), a `Bundle`, or what a file of another program contains.

    Args:
        path: the file. It stays open, because weights are read when they are needed.
        shapes: of the base model's sites.

    Raises:
        OSError, UnknownFormatError, DamagedFileError: as `detect`.
        BaseModelError: a file of another program was made for another base model.
        FormatTooNewError: written by a newer cnsctl.
    """
    from cnsctl.formats.bundle import open_bundle
    from cnsctl.formats.tensor_file import open_file

    found = detect(path)
    if found.NAME is ExportFormat.BUNDLE:
        with open_bundle(path) as bundle:
            yield bundle
    elif found.NAME is ExportFormat.NATIVE:
        yield read_native(path, shapes)
    else:
        with open_file(path) as file:
            yield cast("Reader", found).read(file, shapes)


def read_native(path: Path, shapes: Mapping[str, tuple[int, int]]) -> Delta:
    """Read a delta file that does not belong to a store.

    Args:
        path: the file.
        shapes: of the base model's sites; no more is read than a delta of them can have.

    Raises:
        OSError: the file cannot be read.
        DamagedFileError: it is not as cnsctl wrote it, or too large.
        FormatTooNewError: written by a newer cnsctl.
    """
    from cnsctl.formats.delta import most_bytes, read

    most = most_bytes(shapes)
    with path.open("rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise DamagedFileError(
            f"the delta is too large for the base model: {path}: {path.stat().st_size} bytes",
            hint="use it with the base model that it was trained on",
        )
    try:
        return read(data)
    except StoreDamagedError as err:
        raise DamagedFileError(
            f"{path} is damaged: {err.what.partition(': ')[2]}", hint="download it or export it again"
        ) from err


def _header(path: Path) -> Header:
    """What a format is recognized by; a file that is not a safetensors file has only its first bytes."""
    from cnsctl.formats.tensor_file import Header, open_file

    with path.open("rb") as stream:
        start = stream.read(_N_START)
    _refuse_pickle(path, start)
    if start[8:9] != b"{":
        return Header(start=start)
    with open_file(path) as file:
        return file.header


def _refuse_pickle(path: Path, start: bytes) -> None:
    """Refuse the files of torch.save: reading one can run a program that it contains."""
    in_zip = start[:4] == b"PK\3\4" and b"data.pkl" in start[30:]
    if in_zip or start.startswith(_PICKLES):
        raise UnknownFormatError(
            f"unknown format: {path} is a pickle (.pt, .bin, .ckpt)",
            note="a pickle can run a program when it is read, so none is read",
            hint="convert it to safetensors with the program that wrote it, or with safetensors.torch.save_file",
            reason="pickle",
        )


def _what_it_is(header: Header) -> str | None:
    """What a file is that no format matches, if that is known."""
    from cnsctl.key_names import ALGORITHMS

    start = header.start.lower()
    if not start:
        return "the file is empty"
    for first, note in _NOT_THE_FILE.items():
        if start.startswith(first):
            return note
    if not header.entries and start[8:9] != b"{":
        return "it is neither a safetensors file nor a bundle"
    if any(key.startswith(_WHOLE_MODEL) for key in header.entries):
        return "it contains a whole model, not a concept; a checkpoint can be the base model of a new store"
    found = {name for key in header.entries for ending, name in ALGORITHMS.items() if key.endswith(ending)}
    return (
        f"a file of {', '.join(sorted(found))}; known are LoRA, full differences and whole weights" if found else None
    )
