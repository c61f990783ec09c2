"""Files that cannot be read: each file that a command reads fails in turn, as on a disk with bad sectors.

Owns the injection; must not know which command is tested.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from pathlib import Path


class Reads:
    """Records the files below some folders that are opened for reading; one of them can fail at its first read.

    Python's `open` and `os.open` are watched. The failing file can be opened, and its size and times are right: its bytes
    cannot be read. Errors of the system have no file name then.
    """

    def __init__(self, patch, *folders, fails=None):
        self.seen: dict[str, None] = {}
        self.fired = False
        self._folders = [f"{os.path.realpath(folder)}/" for folder in folders]
        self._fails, self._failing = fails, set()
        opened, os_open, os_read, os_close = io.open, os.open, os.read, os.close

        def open_file(file, mode="r", *args, **kwargs):
            if "r" not in mode or "+" in mode or not self._watched(file):
                return opened(file, mode, *args, **kwargs)
            found = opened(file, mode, *args, **kwargs)
            return found if self._key(file) != self._fails else self._broken(found, mode)

        def open_descriptor(path, flags, *args, **kwargs):
            fd = os_open(path, flags, *args, **kwargs)
            reads = flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_DIRECTORY
            if reads and self._watched(path) and self._key(path) == self._fails:
                self._failing.add(fd)
            return fd

        def read(fd, size):
            if fd in self._failing:
                self.fired = True
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return os_read(fd, size)

        def close(fd):
            self._failing.discard(fd)
            os_close(fd)

        for module in (io, builtins):
            patch.setattr(module, "open", open_file)
        patch.setattr(os, "open", open_descriptor)
        patch.setattr(os, "read", read)
        patch.setattr(os, "close", close)

    @staticmethod
    def _key(path):
        return os.path.realpath(os.fspath(path))

    def _watched(self, path):
        if not isinstance(path, (str, Path)):
            return False
        key = self._key(path)
        if not key.startswith(tuple(self._folders)):
            return False
        self.seen[key] = None
        return True

    def _broken(self, found, mode):
        found.close()
        raw = _Broken(found.name, self)
        binary = io.BufferedReader(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding="utf-8")


class _Broken(io.FileIO):
    def __init__(self, path, owner):
        super().__init__(path, "rb")
        self._owner = owner

    def readinto(self, _buffer):
        self._owner.fired = True
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def readall(self):
        self.readinto(None)
