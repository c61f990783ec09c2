"""One process at a time: locks that the kernel releases when their holder dies.

Owns taking a lock and naming its holder; must not know what is protected. The content of the file is for messages only.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from cnsctl.errors import StoreLockedError
from cnsctl.store.files import disk_problem, make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_POLL_S = 0.02
_MAX_NOTE = 4096
"""Bytes of a lock file that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that holds a lock, as far as its note says."""

    pid: int | None
    host: str | None
    what: str
    """Such as "add dog"."""
    since: float
    """In seconds since 1970."""

    def __str__(self) -> str:
        if self.pid is None or self.host is None:
            return "another process"
        return f"process {self.pid} on {_printable(self.host)} ({_printable(self.what)}, for {_age(time.time() - self.since)})"


@contextmanager
def locked(path: Path, *, what: str, wait_s: float = 0.0) -> Iterator[Callable[[], bool]]:
    """Hold an exclusive lock, which ends with the block or with the process, whichever comes first.

    The file remains when the lock ends. If the holder removes it, a waiting process locks a new file. Yields a function
    that returns whether the lock is still held: a person may have removed its file.

    Args:
        path: of the lock file; its folder must exist.
        what: what is being done, for the message of other processes: "add dog".
        wait_s: how long to wait for another holder.

    Raises:
        StoreLockedError: another process holds it; the message names it.
        DiskError: the file cannot be opened, or the file system has no locks.
        FileNotFoundError: the folder does not exist, or was removed meanwhile.
    """
    fd = _acquired(path, time.monotonic() + wait_s)
    try:
        _sign(fd, what)
        yield lambda: _is_current(fd, path)
    finally:
        try:
            with suppress(OSError):
                os.ftruncate(fd, 0)
        finally:  # after Ctrl-C too: a notebook goes on
            with suppress(OSError):  # the file contains only the note: the work under the lock has not failed
                os.close(fd)


def refuse_lost(is_locked: Callable[[], bool], folder: Path) -> None:
    """Check that the lock of a store is still held: a person may have removed its file.

    Raises:
        StoreLockedError: it is not.
    """
    if not is_locked():
        raise StoreLockedError(f"the lock of the store was lost: {folder}", hint="run the command again")


@contextmanager
def locked_in(folder: Path, name: str, *, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """Make a folder and hold a lock in it. If its last holder removes it meanwhile, it is made again.

    Raises:
        StoreLockedError, DiskError: as from `locked`.
    """
    with ExitStack() as held:
        while True:
            make_folder(folder)
            with suppress(FileNotFoundError):
                held.enter_context(locked(folder / name, what=what, wait_s=wait_s))
                break
        yield


def holder_of(path: Path) -> Holder | None:
    """The holder of a lock; None if it is free, or if that cannot be found out."""
    import fcntl

    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(os.pread(fd, _MAX_NOTE, 0))
        finally:
            os.close(fd)
    return None


def _acquired(path: Path, deadline_s: float) -> int:
    import fcntl  # absent on Windows, where the package must still be importable to refuse

    with _queued(path.parent, deadline_s):
        while True:
            fd = _open(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_current(fd, path):
                    return fd
            except BlockingIOError as err:
                if time.monotonic() >= deadline_s:
                    _refuse(fd, path, err)
            except OSError as err:
                os.close(fd)
                raise disk_problem(err, "lock", path) from err
            except BaseException:  # Ctrl-C
                os.close(fd)
                raise
            os.close(fd)
            time.sleep(_POLL_S)


@contextmanager
def _queued(folder: Path, deadline_s: float) -> Iterator[None]:
    """Let one waiting process at a time compete for the lock: whoever comes later waits for the lock on the folder.

    Without it, a process that takes the lock again and again would keep the others out. Where folders cannot be locked,
    waiting is not fair.
    """
    import fcntl

    if time.monotonic() >= deadline_s:
        yield
        return
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # opening the lock's file reports it
        yield
        return
    try:
        while time.monotonic() < deadline_s:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_POLL_S)
            except OSError:
                break
        yield
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    try:
        # not truncated here: until flock returns, the content belongs to another holder
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        raise
    except OSError as err:
        raise disk_problem(err, "lock", path) from err


def _is_current(fd: int, path: Path) -> bool:
    """Is the locked file still the one that the path names? Its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def _sign(fd: int, what: str) -> None:
    note = {"pid": os.getpid(), "host": os.uname().nodename, "what": what[:400], "since": time.time()}
    with suppress(OSError):  # the lock holds on a full disk too; only the message for others is shorter
        content = json.dumps(note).encode()
        os.pwrite(fd, content, 0)
        os.ftruncate(fd, len(content))


def _refuse(fd: int, path: Path, err: OSError) -> NoReturn:
    try:
        holder = _holder(os.pread(fd, _MAX_NOTE, 0))
    except OSError:
        holder = _holder(b"")
    finally:
        os.close(fd)
    raise StoreLockedError(
        f"{path.parent} is in use by {holder}", hint="wait until it ends, or end it; nothing was changed"
    ) from err


def _holder(content: bytes) -> Holder:
    try:
        note = json.loads(content)
        return Holder(pid=int(note["pid"]), host=str(note["host"]), what=str(note["what"]), since=float(note["since"]))
    except (ValueError, TypeError, LookupError, RecursionError, OverflowError):
        return Holder(pid=None, host=None, what="", since=0.0)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _age(age_s: float) -> str:
    if not age_s >= 0:  # the clock was set back, or the note is damaged
        return "an unknown time"
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if age_s >= seconds:
            return f"{age_s / seconds:.0f} {unit}"
    return f"{age_s:.0f} s"
