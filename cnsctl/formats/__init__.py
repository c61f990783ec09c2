"""File formats: bytes to values and back. What is read is checked in full.

Owns the list of interchange formats, in which concepts are exchanged with other programs; must not know the store.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from cnsctl.errors import StoreDamagedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.concept import Delta

FORMATS = ["cnsctl.formats.delta"]
"""Modules of the interchange formats, in the order of detection. They are imported when used, because they need numpy."""


class Format(Protocol):
    """The functions of an interchange format's module."""

    def matches(self, header: Mapping[str, object], /) -> bool:
        """Is a file with this safetensors header (the JSON object) of this format?"""

    def read(self, data: bytes, /) -> Delta:
        """Read a whole file."""

    def write(self, delta: Delta, /) -> bytes:
        """Write a whole file."""


def detect(data: bytes) -> Format:
    """Find the format of a file.

    Raises:
        StoreDamagedError: it is not a safetensors file.
        UsageError: its format is unknown.
    """
    from cnsctl.formats.safetensors_file import read_json

    try:
        header, _ = read_json(data)
    except ValueError as err:
        raise StoreDamagedError(f"not a safetensors file: {err}", hint="restore it from a backup") from err
    for name in FORMATS:
        found = cast("Format", import_module(name))
        if found.matches(header):
            return found
    known = ", ".join(name.rpartition(".")[2] for name in FORMATS)
    raise UsageError("unknown format of a safetensors file", note=f"known formats: {known}")
