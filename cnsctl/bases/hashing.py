"""Hashes of weights and files; those of weights do not depend on the precision in which they are loaded.

Owns the canonical bytes of a set of tensors; must not know which model they belong to.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from cnsctl.errors import BaseModelError, StoreDamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import torch


def tensors_hash(named: Iterable[tuple[str, torch.Tensor]], *, meaning: object = None) -> str:
    """SHA-256 over tensors by name, rounded to fp16, and over a JSON-able meaning.

    fp16 and fp32 copies of one model agree; one changed weight does not.
    """
    import torch

    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True, ensure_ascii=True).encode())
    for name, tensor in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        if tensor.is_floating_point():
            half = (
                tensor.detach().to(device="cpu", dtype=torch.float16).reshape(-1).contiguous()
            )  # one dimension: a number has none
            digest.update(half.view(torch.uint8).numpy().tobytes())
        else:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        BaseModelError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:  # an error while reading does not name the file
        raise BaseModelError(f"cannot read {path}: {err.strerror}", hint="check the disk and the permissions") from err


def check_names(names: Iterable[str]) -> None:
    """Refuse names of files that cannot be recorded.

    Raises:
        BaseModelError: with the name.
    """
    for name in names:
        if not name.isprintable() or "\\" in name:
            raise BaseModelError(
                f"invalid file name in the base model: {name!r}",
                note="control characters and backslashes are not allowed",
                hint="rename or remove the file",
            )


def folder_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of files of a base model, by relative POSIX path, sorted."""
    return {name: file_hash(folder / name) for name in sorted(names)}


def stamps(folder: Path, names: Iterable[str]) -> dict[str, list[str | int]]:
    """By name: the resolved path, size, mtime and ctime (ns) and inode of a file. If equal, the file was not written to.

    A program can set mtime back, but not ctime. Missing files have no stamp.
    """
    found: dict[str, list[str | int]] = {}
    for name in sorted(names):
        path = (folder / name).resolve()
        if path.is_file():
            stat = path.stat()
            found[name] = [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    return found


def changed_files(folder: Path, hashes: Mapping[str, str]) -> list[str]:
    """The files whose bytes differ from recorded hashes.

    Raises:
        BaseModelError: a file is missing.
    """
    changed = []
    for name, expected in hashes.items():
        if not (folder / name).is_file():
            raise BaseModelError(f"file of the base model not found: {folder / name}", reason="base-changed")
        if file_hash(folder / name) != expected:
            changed.append(name)
    return changed


def check_folder(folder: Path, hashes: Mapping[str, str]) -> None:
    """Compare a folder with recorded hashes.

    Raises:
        BaseModelError: the folder or one of its files is missing.
        StoreDamagedError: the bytes of a file have changed.
    """
    if changed := changed_files(folder, hashes):
        raise StoreDamagedError(
            f"file of the base model has changed: {folder / changed[0]}",
            note=f"its SHA-256 is not the recorded {hashes[changed[0]][:12]}…",
            reason="base-changed",
        )
