"""Disks that fail and processes that are killed at any system call.

Owns the injection; must not know which operation is tested.
"""

import fcntl
import os
import shutil

CALLS = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir")

LOCKS = ("flock",)
"""Functions of `fcntl` that can fail, too."""


class Killed(BaseException):
    """The process is killed: its handlers run no further system call."""


class Fault:
    """Makes the nth of some system calls fail; a kill makes all later calls fail too.

    The one place in which the product writes files calls them by their own names, so nothing in it knows of this.

    Args:
        patch: removes the fault at its end.
        n: which call, from 1.
        error: an errno, `Killed`, or an exception to raise once, as a signal's handler does.
        calls: functions of `os` and `fcntl` that count.
        armed: whether calls count from the beginning; else from `arm`.
        forever: all later calls fail, too, as on a disk that stays full.
    """

    def __init__(self, patch, n, error, *, calls=CALLS, armed=True, forever=False):
        self.fired, self.armed = False, armed
        self._n_calls, self._n, self._error, self._forever = 0, n, error, forever
        for name in CALLS:
            patch.setattr(os, name, self._guarded(getattr(os, name), counts=name in calls))
        for name in LOCKS:
            patch.setattr(fcntl, name, self._guarded(getattr(fcntl, name), counts=name in calls))
        # without file descriptors, rmtree calls only the functions above
        patch.setattr(shutil, "_use_fd_functions", False)

    def arm(self):
        self.armed = True

    def _guarded(self, original, *, counts):
        def guarded(*args, **kwargs):
            if self.fired and self._error is Killed:
                raise Killed
            if self.armed and counts and (self._forever or not self.fired):
                self._n_calls += 1
                if self._n_calls == self._n or self.fired:
                    self.fired = True
                    raise self._error if isinstance(self._error, type) else OSError(self._error, "fault")
            return original(*args, **kwargs)

        return guarded


def arm_after_commit(patch, fault):
    """Let the fault count from the moment when the catalogue is replaced."""
    replace = os.replace

    def watched(source, target):
        replace(source, target)
        if str(target).endswith("catalogue.json"):
            fault.arm()

    patch.setattr(os, "replace", watched)
