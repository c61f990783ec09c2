"""JSON files in the folder of a base model.

Owns how they are read; must not know what they say.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from pathlib import Path

BOM = b"\xef\xbb\xbf"
"""The mark that some editors write before a text in UTF-8. JSON does not allow it; it is skipped."""

LFS_POINTER = b"version https://git-lfs"
"""How the file begins that a clone without git-lfs contains instead of a large file."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BaseModelError: the file is missing, a pointer of Git LFS, or not a JSON object.
    """
    refuse_pointer(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as err:
        reason = "not found" if isinstance(err, FileNotFoundError) else str(err)
        raise BaseModelError(f"cannot read {path}: {reason}", hint="restore the folder of the base model") from err
    if not isinstance(data, dict):
        raise BaseModelError(f"not a JSON object: {path}", hint="restore the folder of the base model")
    return data


def refuse_pointer(path: Path) -> None:
    """Refuse a file that Git LFS has not downloaded, or that cannot be read. One that is missing is not refused here.

    Raises:
        BaseModelError: the file is a pointer, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return
    except OSError as err:
        raise BaseModelError(
            f"cannot read {path}: {err.strerror}", hint="check the disk and the permissions of the base model"
        ) from err
    if start == LFS_POINTER:
        raise BaseModelError(
            f"a Git LFS pointer instead of the file: {path}",
            note="the repository was cloned without git-lfs",
            hint=f"run: git -C {path.parent} lfs pull",
        )
