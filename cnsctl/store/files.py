"""Files that are whole or absent: atomic writing, bounded reading, folders that survive a power cut.

Owns the order of write, fsync and rename and the words for a failing disk; must not know what is written.
"""

# ruff: noqa: PTH102, PTH105, PTH108 -- system calls by their own names: tests make the Nth one fail

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from cnsctl.errors import DiskProblem, StoreDamaged

if TYPE_CHECKING:
    from pathlib import Path

TEMP_PREFIX = ".tmp-"
"""Files of this name are unfinished writes; nobody reads them."""

_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems answer that cannot fsync a folder: they order renames themselves, or not at all."""

_WORDS = {
    errno.ENOSPC: ("the disk is full", "make room and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "make room and run the same command again"),
    errno.EROFS: ("the disk is read-only", "use a store on another disk: --store FOLDER"),
    errno.EACCES: ("permission denied", "give yourself the right to write there, or use --store FOLDER"),
    errno.EPERM: ("permission denied", "give yourself the right to write there, or use --store FOLDER"),
    errno.EIO: ("the disk is failing", "save what you can, and restore the store on another disk"),
    errno.ELOOP: ("it is a symbolic link", "remove the link"),
    errno.ENOLCK: ("the file system has no locks", "keep the store on a local disk: --store FOLDER"),
    errno.ENOTSUP: ("the file system cannot do that", "keep the store on a local disk: --store FOLDER"),
}


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that, whatever happens, its name stands for the old content or for all of the new.

    When it fails the old file is there, with one exception: if only the last step fails, the fsync of the folder, the
    new one is there, and a power cut may still bring the old one back.

    Args:
        path: in a folder that exists.
        data: the whole content.
        mode: permissions, before the umask.

    Raises:
        DiskProblem: full, read-only or failing.
    """
    # fsync errors are final: a second fsync of the same pages would lie, so a retry writes a new file
    temp = path.with_name(f"{TEMP_PREFIX}{path.name[:40]}-{os.getpid()}-{os.urandom(6).hex()}")
    try:
        _write_new(temp, data, mode)
        os.replace(temp, path)
        sync_folder(path.parent)
    except OSError as err:
        raise disk_problem(err, "write", path) from err
    finally:
        with suppress(OSError):  # after a success there is nothing under this name
            os.unlink(temp)


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        FileNotFoundError: it is not there; what that means only the caller knows.
        StoreDamaged: it is larger, or no regular file.
        DiskProblem: it cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would wait for a writer
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise StoreDamaged(f"{path} is no regular file", hint="put the file itself there, from a backup")
            if found.st_size > limit:
                raise StoreDamaged(
                    f"{path} has {found.st_size} bytes, at most {limit} are allowed", hint="restore it from a backup"
                )
            return _read_all(fd, found.st_size, limit, path)
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError) as err:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from err
    except OSError as err:
        raise disk_problem(err, "read", path) from err


def make_folder(path: Path) -> None:
    """Make a folder and what is missing above it, so that all of them survive a power cut.

    Raises:
        DiskProblem: full, read-only or failing, or something else bears the name.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        with suppress(FileExistsError):  # another process was faster; if it is no folder, the next step says so
            os.mkdir(path)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        sync_folder(path.parent)
    except OSError as err:
        raise disk_problem(err, "make the folder", path) from err


def sync_folder(path: Path) -> None:
    """Make names in a folder durable.

    Raises:
        OSError: for callers that know what they were doing.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as err:
        if err.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed writers left in a folder. Only for the holder of the lock under which it is written."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMP_PREFIX):
                with suppress(OSError):
                    os.unlink(entry.path)


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write at a path, which need not exist yet."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        found = os.statvfs(path)
    except OSError as err:
        raise disk_problem(err, "measure the space at", path) from err
    return found.f_bavail * found.f_frsize


def disk_problem(err: OSError, doing: str, path: Path) -> DiskProblem:
    """Say an operating system's error in words, with the path and what to do."""
    default = (os.strerror(err.errno) if err.errno is not None else str(err), "check the disk and the path")
    words, hint = _WORDS.get(err.errno if err.errno is not None else 0, default)
    return DiskProblem(f"cannot {doing} {path}: {words}", hint=hint)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        left = memoryview(data)
        while left:
            written = os.write(fd, left)
            if written == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            left = left[written:]
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_all(fd: int, size: int, limit: int, path: Path) -> bytes:
    pieces, n_bytes = [], 0
    while piece := os.read(fd, max(size + 1 - n_bytes, 1 << 16)):  # all of it at once: joining pieces would copy them
        pieces.append(piece)
        n_bytes += len(piece)
        if n_bytes > limit:  # it grew after fstat
            raise StoreDamaged(f"{path} grew past {limit} bytes while it was read", hint="restore it from a backup")
    return b"".join(pieces)
