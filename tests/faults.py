"""A disk in place of the real one: each call that changes it can fail, be the last one of a killed process, or be noted.

The product writes files in one place, which calls `os` by name, so nothing in it knows of this. Owns the calls; must not
know which operation is tested.
"""

import builtins
import fcntl
import functools
import io
import os
import shutil

CALLS = ("open", "write", "pwrite", "ftruncate", "fsync", "replace", "rename", "link", "mkdir", "unlink", "rmdir")

LOCKS = ("flock",)
"""Functions of `fcntl` that can fail, too."""


class Killed(BaseException):
    """The process is killed: its handlers run no further system call."""


def watch(patch, hook):
    """Let each call of the disk be `hook(name, original, *args, **kwargs)`, until the patch is undone.

    Returns the file descriptors that are open: those that `os.open` has returned, not those of Python's own files.
    """
    held, original_open, original_close = set(), os.open, os.close
    for module, names in ((os, CALLS), (fcntl, LOCKS)):
        for name in names:
            patch.setattr(module, name, functools.partial(hook, name, getattr(module, name)))

    def opened(*args, **kwargs):
        held.add(fd := hook("open", original_open, *args, **kwargs))
        return fd

    def closed(fd):
        held.discard(fd)
        original_close(fd)

    patch.setattr(os, "open", opened)
    patch.setattr(os, "close", closed)
    patch.setattr(shutil, "_use_fd_functions", False)  # without file descriptors, rmtree calls only the functions above
    unheld = functools.partial(hook, "open", original_open)
    for module in (builtins, io):
        patch.setattr(module, "open", functools.partial(_opened, io.open, unheld))
    return held


class _Raw(io.RawIOBase):
    """A new file whose writes are calls of `os.write`; those of Python's own are not seen here."""

    def __init__(self, fd):
        self._fd = fd

    def fileno(self):
        return self._fd

    def writable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        return os.lseek(self._fd, offset, whence)

    def write(self, data):
        return os.write(self._fd, data)

    def close(self):
        if not self.closed:
            super().close()
            os.close(self._fd)


_NEW = {"wb": os.O_TRUNC, "xb": os.O_EXCL}


def _opened(original, os_open, file, /, mode="r", buffering=-1, *args, **kwargs):
    """`open`, with calls of `os` for what writes bytes."""
    if mode in _NEW and buffering == -1:
        is_open = isinstance(file, int)
        return io.BufferedWriter(_Raw(file if is_open else os.open(file, os.O_WRONLY | os.O_CREAT | _NEW[mode], 0o666)))
    if not isinstance(file, int) and "opener" not in kwargs:
        kwargs["opener"] = lambda path, flags: os_open(path, flags, 0o666)
    return original(file, mode, buffering, *args, **kwargs)


class Fault:
    """Makes the nth of some calls fail; a kill makes all later calls fail too.

    Args:
        patch: removes the fault at its end.
        n: which call, from 1.
        error: an errno, `Killed`, or an exception to raise once, as a signal's handler does.
        calls: the functions that count.
        armed: whether calls count from the beginning; else from `arm`.
        forever: all later calls fail, too, as on a disk that stays full.
    """

    def __init__(self, patch, n, error, *, calls=CALLS, armed=True, forever=False):
        self.fired, self.armed = False, armed
        self._n_calls, self._n, self._error, self._forever, self._calls = 0, n, error, forever, calls
        self._patch, self._close = patch, os.close
        self._held = watch(patch, self._call)

    def arm(self):
        self.armed = True

    def _call(self, name, original, *args, **kwargs):
        if self.fired and self._error is Killed:
            raise Killed
        if self.armed and name in self._calls and (self._forever or not self.fired):
            self._n_calls += 1
            if self._n_calls == self._n or self.fired:
                self.fired = True
                if self._error is Killed:
                    self._close_all()
                raise self._error if isinstance(self._error, type) else OSError(self._error, "fault")
        return original(*args, **kwargs)

    def _close_all(self):
        """As the kernel does at the end of a process, which frees its locks; its handlers close nothing any more."""
        gone = set(self._held)
        for fd in gone:
            self._close(fd)
        close = os.close
        self._patch.setattr(os, "close", lambda fd: None if fd in gone else close(fd))


def arm_after_commit(patch, fault):
    """Let the fault count from the moment when the catalogue is replaced."""
    replace = os.replace

    def watched(source, target):
        replace(source, target)
        if str(target).endswith("catalogue.json"):
            fault.arm()

    patch.setattr(os, "replace", watched)
