"""Hashes of weights and files; those of weights do not depend on the precision in which they are loaded.

Owns the canonical bytes of a set of tensors; must not know which model they belong to.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from cnsctl.errors import BaseModelError, StoreDamagedError
from cnsctl.events import within

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from pathlib import Path

    import torch


def hashing_tensors(
    named: Iterable[tuple[str, torch.Tensor]], *, meaning: object = None
) -> Generator[float, None, str]:
    """SHA-256 over tensors by name, rounded to fp16, and over a JSON-able meaning.

    fp16 and fp32 copies of one model agree; one changed weight does not.

    Yields:
        The share that is done.
    """
    import torch

    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True, ensure_ascii=True).encode())
    tensors = sorted(named, key=lambda pair: pair[0])
    total, done = sum(tensor.numel() for _, tensor in tensors), 0
    for name, tensor in tensors:
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        if tensor.is_floating_point():
            half = (
                tensor.detach().to(device="cpu", dtype=torch.float16).reshape(-1).contiguous()
            )  # one dimension: a number has none
            digest.update(half.view(torch.uint8).numpy().tobytes())
        else:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        done += tensor.numel()
        yield done / max(1, total)
    return digest.hexdigest()


def hashing_file(path: Path) -> Generator[float, None, str]:
    """SHA-256 of a file's bytes.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: it cannot be read.
    """
    digest, done = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            size = max(1, path.stat().st_size)
            while block := file.read(_BLOCK):
                digest.update(block)
                done += len(block)
                yield min(1.0, done / size)
    except OSError as err:  # an error while reading does not name the file
        raise BaseModelError(f"cannot read {path}: {err.strerror}", hint="check the disk and the permissions") from err
    return digest.hexdigest()


def hashing_files(folder: Path, names: Iterable[str]) -> Generator[float, None, dict[str, str]]:
    """SHA-256 of files of a base model, by relative POSIX path, sorted.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: one cannot be read.
    """
    sizes = {name: (folder / name).stat().st_size for name in sorted(names)}
    total, done, found = max(1, sum(sizes.values())), 0, {}
    for name, size in sizes.items():
        found[name] = yield from within(hashing_file(folder / name), done / total, (done + size) / total)
        done += size
    return found


_BLOCK = 1 << 22
"""Bytes of a file that are read at a time."""


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


def finding_changed(folder: Path, hashes: Mapping[str, str]) -> Generator[float, None, list[str]]:
    """The files whose bytes differ from recorded hashes.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: a file is missing.
    """
    for path in (folder / name for name in hashes):
        if not path.is_file():
            raise BaseModelError(f"file of the base model not found: {path}", reason="base-changed")
    found = yield from hashing_files(folder, hashes)
    return [name for name in hashes if found[name] != hashes[name]]


def checking_files(folder: Path, hashes: Mapping[str, str]) -> Generator[float, None, None]:
    """Compare files with recorded hashes.

    Yields:
        The share that is done.

    Raises:
        BaseModelError: the folder or one of its files is missing.
        StoreDamagedError: the bytes of a file have changed.
    """
    if changed := (yield from finding_changed(folder, hashes)):
        raise StoreDamagedError(
            f"file of the base model has changed: {folder / changed[0]}",
            note=f"its SHA-256 is not the recorded {hashes[changed[0]][:12]}…",
            reason="base-changed",
        )
