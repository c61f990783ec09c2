"""The folder `cache/`: bytes under keys, which may be deleted at any time.

Owns its keys and limits; must not know what is cached.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnsctl.errors import CnsctlError
from cnsctl.store.files import make_folder, read_bounded, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,120}")
_MAX_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Cache:
    """One folder, which need not exist."""

    folder: Path

    def get(self, key: str) -> bytes | None:
        """What was cached under a key, or None. Not verified: the reader must detect damage."""
        try:
            return read_bounded(self._file(key), _MAX_BYTES)
        except (FileNotFoundError, CnsctlError):
            return None

    def put(self, key: str, data: bytes) -> None:
        """Cache data under a key; a failing disk is ignored."""
        with suppress(CnsctlError):
            make_folder(self.folder)
            write_atomic(self._file(key), data)

    def _file(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a key of the cache")
        return self.folder / key
