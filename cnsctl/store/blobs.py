"""Immutable files named by the SHA-256 of their content.

Owns putting and getting whole blobs, verified; must not know what is in them or who needs them. Nothing is deleted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cnsctl.errors import CapacityError, DiskError, StoreDamagedError
from cnsctl.formats.canonical import sha256
from cnsctl.store.files import disk_problem, read_bounded, sync_folder, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 30
"""A delta of every K/V weight of SDXL stays below."""

SHA256 = re.compile(r"[0-9a-f]{64}")
"""A blob's name, by `fullmatch`."""


def put(folder: Path, data: bytes) -> str:
    """Keep data durably and return its name. What is there already is kept if it is right, replaced if it is damaged.

    Raises:
        DiskError: it cannot be written.
        CapacityError: larger than a blob may be.
    """
    if len(data) > MAX_BYTES:
        raise CapacityError(
            f"{len(data)} bytes are too many for one file of a store, at most {MAX_BYTES}", hint="use a smaller budget"
        )
    sha = sha256(data)
    if _is_right(folder / sha, sha):
        try:
            sync_folder(folder)  # whoever wrote it may have died before it did that
        except OSError as err:
            raise disk_problem(err, "write", folder / sha) from err
    else:
        write_atomic(folder / sha, data)
    return sha


def get(folder: Path, sha: str) -> bytes:
    """Read a blob, whole and verified.

    Raises:
        StoreDamagedError: it is missing, or its bytes are not those that were kept.
        DiskError: it cannot be read.
    """
    if not SHA256.fullmatch(sha):
        raise StoreDamagedError(f"{sha[:80]!r} is no name of a blob", hint="restore catalogue.json from a backup")
    try:
        data = read_bounded(folder / sha, MAX_BYTES)
    except FileNotFoundError as err:
        raise StoreDamagedError(f"{folder / sha} is missing", hint=_advice(sha)) from err
    if sha256(data) != sha:
        raise StoreDamagedError(f"{folder / sha} is damaged: its content is not what was kept", hint=_advice(sha))
    return data


def _is_right(path: Path, sha: str) -> bool:
    try:
        return sha256(read_bounded(path, MAX_BYTES)) == sha
    except (FileNotFoundError, StoreDamagedError, DiskError):
        return False


def _advice(sha: str) -> str:
    return f"restore blobs/{sha[:12]}… from a backup, or train the concept that needs it again"
