"""Files that are whole or absent: atomic writing, bounded reading, folders that survive a power cut.

Owns the order of write, fsync and rename, and the messages for a failing disk; must not know what is written.
"""

# ruff: noqa: PTH102, PTH105, PTH108 -- system calls by their own names: tests make the Nth one fail

from __future__ import annotations

import errno
import os
import re
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from cnsctl.errors import DiskError, NotDurableError, StoreDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TEMP_PREFIX = ".tmp-"
"""Files with this prefix are unfinished writes, which are never read."""

TEMP_NAME = re.compile(rf"{re.escape(TEMP_PREFIX)}.{{0,40}}-\d+-[0-9a-f]{{12}}", re.DOTALL)
"""Names of temporary files and folders, with the number of the process that made them."""

PIECE = 1 << 20
"""Bytes of a large file that are in memory at a time."""

_ABANDONED_S = 1.0
"""Age from which a temporary file without a lock is abandoned: it is locked right after it is made."""

_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of file systems that cannot fsync a folder: they order renames themselves, or not at all."""

_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of file systems without hard links, such as FAT."""

_WORDS = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EROFS: ("the disk is read-only", "use a store on another disk"),
    errno.EACCES: ("permission denied", "change the permissions, or use a store in another place"),
    errno.EPERM: ("permission denied", "change the permissions, or use a store in another place"),
    errno.EIO: ("the disk is failing", "copy the store to another disk and use that copy"),
    errno.ELOOP: ("a symbolic link is in the way", "remove the link"),
    errno.ENOLCK: ("the file system has no locks", "use a store on a local disk"),
    errno.ENOTSUP: ("the file system does not support this", "use a store on a local disk"),
}


def write_atomic(path: Path, data: bytes, *, mode: int = 0o666, before: Callable[[], None] = lambda: None) -> None:
    """Write a file so that, after any failure, its name refers to the whole old content or to the whole new one.

    The rename is the commit: a failure before it leaves the old file.

    Args:
        path: in a folder that exists.
        data: the whole content.
        mode: permissions, before the umask.
        before: called right before the rename; what it raises leaves the old file.

    Raises:
        NotDurableError: the new file is there, but a power cut may bring the old one back.
        DiskError: full, read-only or failing; the old file is there.
    """
    with _placed(path) as temp, _written(temp, data, mode):
        before()
        os.replace(temp, path)


def write_once(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a file under a name that is free. If two processes write the same name, one of them fails.

    Raises:
        FileExistsError: the name is taken; the existing file is unchanged.
        NotDurableError: the file is there, but a power cut may remove it.
        DiskError: full, read-only or failing.
    """
    with _placed(path) as temp, _written(temp, data, mode):
        _name_once(temp, path, mode)


@contextmanager
def writing(path: Path, *, overwrite: bool, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A large file, which gets its name when the block ends without an error: whole, or not at all.

    Args:
        path: in a folder that exists.
        overwrite: replace a file of this name.
        mode: permissions, before the umask.

    Raises:
        FileExistsError: the name is taken, and it must not be overwritten.
        NotDurableError: the file is there, but a power cut may remove it.
        DiskError: full, read-only or failing.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _placed(path) as temp, open(os.open(temp, flags, mode), "wb") as file:  # noqa: PTH123  a descriptor
        _try_lock(file.fileno())  # shows that it is not abandoned
        yield file
        file.flush()
        os.fsync(file.fileno())
        if overwrite:
            os.replace(temp, path)
        else:
            _name_once(temp, path, mode)


@contextmanager
def writing_new(path: Path) -> Iterator[BinaryIO]:
    """A large file in a new folder that nothing reads yet. Its name is durable only after `sync_folder`.

    Raises:
        DiskError: full, read-only or failing.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o666), "wb") as file:  # noqa: PTH123  a descriptor
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as err:
        raise disk_problem(err, "write", path) from err


@contextmanager
def _placed(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`. The block writes that file and renames it; afterwards the folder is on disk too.

    Raises:
        FileExistsError: the block raised it.
        NotDurableError: the file is there, but a power cut may undo the rename.
        DiskError: full, read-only or failing.
    """
    # fsync errors are final: a second fsync of the same pages may succeed without writing, so a retry writes a new file
    temp = _temp(path)
    try:
        yield temp
    except FileExistsError:
        raise
    except OSError as err:
        raise disk_problem(err, "write", path) from err
    finally:
        with suppress(OSError):  # after the rename the name is free
            os.unlink(temp)
    try:
        sync_folder(path.parent)
    except OSError as err:
        raise not_durable(err, path) from err


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        FileNotFoundError: it does not exist; the caller decides what that means.
        StoreDamagedError: it is larger, or not a regular file.
        DiskError: it cannot be read.
    """
    with _opened(path, limit) as (fd, size):
        return _read_all(fd, size, limit, path)


def read_pieces(path: Path, limit: int) -> Iterator[bytes]:
    """Read a regular file of at most `limit` bytes, one piece in memory at a time.

    Raises:
        FileNotFoundError, StoreDamagedError, DiskError: as from `read_bounded`.
    """
    n_bytes = 0
    with _opened(path, limit) as (fd, _):
        while piece := os.read(fd, PIECE):
            n_bytes += len(piece)
            if n_bytes > limit:  # it grew after fstat
                raise _grown(path, limit)
            yield piece


@contextmanager
def _opened(path: Path, limit: int) -> Iterator[tuple[int, int]]:
    """A regular file of at most `limit` bytes, open for reading: its descriptor and size."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would wait for a writer
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise StoreDamagedError(f"not a regular file: {path}", hint="restore the file itself from a backup")
            if found.st_size > limit:
                raise StoreDamagedError(
                    f"file is too large: {path}: {found.st_size} bytes (at most {limit})",
                    hint="restore it from a backup",
                )
            yield fd, found.st_size
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError) as err:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from err
    except OSError as err:
        raise disk_problem(err, "read", path) from err


def entries_of(folder: Path) -> list[Path]:
    """What a folder contains, sorted.

    Raises:
        FileNotFoundError: it does not exist, or is not a folder.
        DiskError: it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError) as err:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder)) from err
    except OSError as err:
        raise disk_problem(err, "read the folder", folder) from err


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, so that all of them survive a power cut.

    Raises:
        DiskError: full, read-only or failing, or another kind of file has the name.
    """
    while not path.is_dir():  # again, if another process took it for an abandoned one and removed it
        make_folder(path.parent)
        try:
            try:
                os.mkdir(path)
            except FileExistsError:
                with suppress(FileNotFoundError):  # another process was faster, and has removed it
                    if not stat.S_ISDIR(os.lstat(path).st_mode) and not path.is_dir():
                        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
            sync_folder(path.parent)
        except OSError as err:
            raise disk_problem(err, "make the folder", path) from err


def sync_folder(path: Path) -> None:
    """Make names in a folder durable.

    Raises:
        OSError: callers add what they were doing.
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
    """Remove temporary files of killed writers. Only for the holder of the lock under which the folder is written."""
    import shutil

    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMP_PREFIX):
                with suppress(OSError):
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of killed writers from a folder that is not locked, such as the user's folder of images."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMP_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if time.time() - os.fstat(fd).st_mtime > _ABANDONED_S and _try_lock(fd):
            os.unlink(path)
    finally:
        os.close(fd)


def free_bytes(path: Path) -> int:
    """Bytes that this user can still write at a path, which need not exist yet."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        found = os.statvfs(path)
    except OSError as err:
        raise disk_problem(err, "measure the space at", path) from err
    return found.f_bavail * found.f_frsize


def disk_problem(err: OSError, doing: str, path: Path | str) -> DiskError:
    """Turn an error of the operating system into an error with the path and advice."""
    default = (os.strerror(err.errno) if err.errno is not None else str(err), "check the disk and the path")
    words, hint = _WORDS.get(err.errno if err.errno is not None else 0, default)
    return DiskError(f"cannot {doing} {path}: {words}", hint=hint, path=str(path))


def _temp(path: Path) -> Path:
    return path.with_name(f"{TEMP_PREFIX}{path.name[:40]}-{os.getpid()}-{os.urandom(6).hex()}")


def _name_once(temp: Path, path: Path, mode: int) -> None:
    """Give a complete file its name, which must be free."""
    try:
        os.link(temp, path)
    except OSError as err:
        if err.errno not in _NO_LINKS:
            raise
        # an empty file reserves the name: only here a reader may find an empty file for a moment
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
        try:
            os.replace(temp, path)
        except OSError:
            os.unlink(path)
            raise


def not_durable(err: OSError, path: Path) -> NotDurableError:
    """The error for a file that is in place but not safe from a power cut."""
    problem = disk_problem(err, "make durable", path)
    return NotDurableError(problem.what, hint=problem.hint)


@contextmanager
def _written(path: Path, data: bytes, mode: int) -> Iterator[None]:
    """A new file with the whole content, on disk. Until the end of the block a lock shows that it is not abandoned."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        _try_lock(fd)
        left = memoryview(data)
        while left:
            written = os.write(fd, left)
            if written == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            left = left[written:]
        os.fsync(fd)
        yield
    finally:
        with suppress(OSError):  # all bytes are on disk, or another error is on its way
            os.close(fd)


def _try_lock(fd: int) -> bool:
    """Lock a file until it is closed; False if another process holds it, or the file system has no locks."""
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_all(fd: int, size: int, limit: int, path: Path) -> bytes:
    pieces, n_bytes = [], 0
    while piece := os.read(
        fd, max(size + 1 - n_bytes, 1 << 16)
    ):  # the whole file at once: joining pieces would copy them
        pieces.append(piece)
        n_bytes += len(piece)
        if n_bytes > limit:  # it grew after fstat
            raise _grown(path, limit)
    return b"".join(pieces)


def _grown(path: Path, limit: int) -> StoreDamagedError:
    return StoreDamagedError(f"{path} grew past {limit} bytes while it was read", hint="restore it from a backup")
