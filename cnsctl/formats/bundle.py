"""A bundle: several concepts in one zip file, each as its delta file, byte by byte.

The first member, `manifest.json`, names the base model and lists the others with length and SHA-256. Members are stored,
not compressed, with fixed times and permissions, so equal concepts give equal bytes.

Owns the layout of the zip file and its checks; must not know the store, or what a delta contains.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zipfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from cnsctl.concept import NAME as CONCEPT_NAME
from cnsctl.concept import Mode
from cnsctl.errors import DamagedFileError, DiskError
from cnsctl.export_formats import ExportFormat
from cnsctl.formats import canonical
from cnsctl.formats.versions import check_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cnsctl.formats.tensor_file import Header

    Record = TypeVar("Record", "BaseReference", "BundledConcept")

NAME = ExportFormat.BUNDLE

FORMAT = 1
"""Version of bundles."""

KIND = "bundle"
MANIFEST = "manifest.json"
MAX_MANIFEST = 16 << 20
MAX_CONCEPTS = 10_000
_MAX_DIRECTORY = 4 << 20
"""Bytes of the zip file's table of contents, which is read whole: about 130 for each concept."""

_TIME = (1980, 1, 1, 0, 0, 0)
_SHA = re.compile(r"[0-9a-f]{64}")
_LARGE = b"\1\0"
"""Begins what the table of contents adds to a member beyond 4 GB: its place."""

_END, _END_64, _LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseReference:
    """The base model that all concepts of a bundle need."""

    name: str
    family: str
    fingerprint: str
    origin: str
    """Where to get it: a hub id, or its name; no path of the machine that wrote the bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledConcept:
    """A concept as the manifest describes it."""

    name: str
    class_word: str
    mode: Mode
    neurons: int
    created: str | None
    """When it was trained, in UTC."""
    sha256: str
    """Of its delta file."""
    bytes: int
    """Length of its delta file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that is open for reading."""

    base: BaseReference
    concepts: tuple[BundledConcept, ...]
    """In the order of the manifest."""
    read: Callable[[str], bytes]
    """Reads the delta file of a concept by name, and compares length and SHA-256.

    Raises:
        KeyError: the bundle does not contain the concept.
        DamagedFileError: it is not the file that was written.
    """


def member(name: str) -> str:
    """The path in the zip file of a concept's delta."""
    return f"concepts/{name}.safetensors"


def write_bundle(
    stream: BinaryIO, base: BaseReference, concepts: Sequence[BundledConcept], read: Callable[[str], bytes]
) -> None:
    """Write a bundle, one delta in memory at a time. Equal input gives equal bytes.

    Args:
        stream: of a file; it must allow seeking.
        base: the base model.
        concepts: what the manifest lists, in this order.
        read: reads the delta file of a concept by name.

    Raises:
        ValueError: a concept cannot be in a bundle, or a delta file is not the one that the manifest describes.
    """
    manifest = {
        "format": FORMAT,
        "kind": KIND,
        "base": asdict(base),
        "concepts": [asdict(concept) for concept in concepts],
    }
    data = canonical.dump(manifest)
    _manifest(data)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, strict_timestamps=True) as archive:
        archive.writestr(_info(MANIFEST), data)
        for concept in concepts:
            delta = read(concept.name)
            _check_delta(concept, delta)
            archive.writestr(_info(member(concept.name)), delta)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _TIME)
    info.create_system = 3  # Unix, on each system
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def _check_delta(concept: BundledConcept, delta: bytes) -> None:
    if len(delta) != concept.bytes or canonical.sha256(delta) != concept.sha256:
        raise ValueError(f"concept {concept.name}: its file is not the one that the manifest describes")


def matches(header: Header) -> bool:
    """Is a file with these first bytes a bundle?"""
    name = MANIFEST.encode("ascii")
    return header.start[:4] == b"PK\3\4" and header.start[30 : 30 + len(name)] == name


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Open a bundle and check everything but the contents of its deltas.

    Raises:
        OSError: the file cannot be opened.
        DamagedFileError: it is not as `write_bundle` writes it.
        FormatTooNewError: written by a newer cnsctl.
    """

    def damaged(err: Exception) -> DamagedFileError:
        return DamagedFileError(f"{path} is damaged: {err}", hint="download it or export it again")

    with path.open("rb") as stream:
        try:
            _check_end(stream)
            archive = zipfile.ZipFile(stream)
            members = _members(archive)
            base, concepts = _manifest(_content(archive, members[MANIFEST], MAX_MANIFEST))
            _compare(members, concepts)
        except _FAULTS as err:
            raise damaged(err) from err
        listed = {concept.name: concept for concept in concepts}

        def read(name: str) -> bytes:
            concept = listed[name]
            try:
                delta = _content(archive, members[member(name)], concept.bytes)
                _check_delta(concept, delta)
            except _FAULTS as err:
                raise damaged(err) from err
            except OSError as err:  # it does not name the file
                raise DiskError(
                    f"cannot read {path}: {err.strerror}", hint="check its disk, or use another copy"
                ) from err
            return delta

        yield Bundle(base=base, concepts=concepts, read=read)


_FAULTS = (zipfile.BadZipFile, ValueError, LookupError, ArithmeticError, RuntimeError, EOFError, struct.error)
"""What zipfile raises about a file that is not as it should be."""


def _check_end(stream: BinaryIO) -> None:
    """Bound the table of contents before zipfile reads it."""
    length = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, length - 22 - 20 - 56))
    tail = stream.read()
    end = tail[-22:]
    if len(end) < 22 or end[:4] != _END or end[20:] != b"\0\0":
        raise ValueError("it does not end as a zip file")
    size = int.from_bytes(end[12:16], "little")
    if tail[-42:-38] == _LOCATOR_64:
        large = tail[-98:-42]
        if large[:4] != _END_64:
            raise ValueError("it does not end as a zip file")
        size = int.from_bytes(large[40:48], "little")
    if size > _MAX_DIRECTORY:
        raise ValueError(f"its table of contents has {size} bytes, {_MAX_DIRECTORY} allowed")
    stream.seek(0)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by name. They follow each other without gaps, from the first byte to the table of contents."""
    infos = archive.infolist()
    if not infos or infos[0].filename != MANIFEST:
        raise ValueError(f"its first member is not {MANIFEST}")
    reached = 0
    for info in infos:
        shown = repr(info.filename[:80])
        mode = info.external_attr >> 16
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"member {shown} is compressed, or its size is wrong")
        if info.flag_bits or info.comment or info.extra[:2] not in {b"", _LARGE}:
            raise ValueError(f"member {shown} is encrypted, or was written by another program")
        if not info.filename or info.is_dir() or not stat.S_ISREG(mode):
            raise ValueError(f"member {shown} is not a file")
        if info.header_offset != reached:
            raise ValueError(f"member {shown} does not follow the one before it")
        reached += 30 + len(info.filename.encode()) + info.file_size
    if reached != archive.start_dir:
        raise ValueError("its table of contents does not follow the last member")
    members = {info.filename: info for info in infos}
    if len(members) != len(infos):
        raise ValueError("two members have the same name")
    return members


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    if info.file_size > limit:
        raise ValueError(f"member {info.filename!r} has {info.file_size} bytes, {limit} expected")
    return archive.read(info)


def _manifest(data: bytes) -> tuple[BaseReference, tuple[BundledConcept, ...]]:
    found = canonical.parse_object(data)
    check_version(found.get("format"), FORMAT, "the bundle")
    if set(found) != {"format", "kind", "base", "concepts"} or found["kind"] != KIND:
        raise ValueError("the manifest is not one of a bundle")
    listed = found["concepts"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_CONCEPTS:
        raise ValueError(f"the manifest does not list 1 to {MAX_CONCEPTS} concepts")
    base = BaseReference(**_record(found["base"], BaseReference))
    for text in asdict(base).values():
        _check_text("base", text)
    concepts = tuple(_concept(_record(value, BundledConcept)) for value in listed)
    if len({concept.name for concept in concepts}) != len(concepts):
        raise ValueError("the manifest lists a concept twice")
    return base, concepts


def _record(value: object, kind: type[Record]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(kind)}:
        raise ValueError(f"the manifest: not the keys of {kind.__name__}")
    return value


def _concept(value: Mapping[str, Any]) -> BundledConcept:
    name = value["name"]
    if not isinstance(name, str) or not CONCEPT_NAME.fullmatch(name):
        raise ValueError(f"the manifest: {str(name)[:80]!r} is not the name of a concept")
    for key in ("class_word", "mode", *(() if value["created"] is None else ("created",))):
        if value[key] != "" or key != "class_word":  # a concept may have none
            _check_text(name, value[key])
    for key in ("neurons", "bytes"):
        if type(value[key]) is not int or not 0 <= value[key] < 1 << 40:
            raise ValueError(f"the manifest: {key} of {name} is out of range")
    if not isinstance(value["sha256"], str) or not _SHA.fullmatch(value["sha256"]):
        raise ValueError(f"the manifest: no SHA-256 of {name}")
    return BundledConcept(**{**value, "mode": Mode(value["mode"])})


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= 400 or not value.isprintable():
        raise ValueError(f"the manifest: a text of {name} is empty, too long, or has control characters")


def _compare(members: Mapping[str, zipfile.ZipInfo], concepts: Sequence[BundledConcept]) -> None:
    """Compare the members with the manifest: names and lengths."""
    wanted = {MANIFEST, *(member(concept.name) for concept in concepts)}
    if missing := wanted - set(members):
        raise ValueError(f"{min(missing)} is missing")
    if more := set(members) - wanted:
        raise ValueError(f"{min(more)[:80]!r} is not in the manifest")
    for concept in concepts:
        if members[member(concept.name)].file_size != concept.bytes:
            raise ValueError(f"concept {concept.name}: its length is not that of the manifest")
