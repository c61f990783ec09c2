"""A disk of 4 MB on which any number of pages is free: a clear error, the state before or after, and readers that work."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from cnsctl.errors import CnsctlError

from .every_call import look_at
from .tally import Tally, scratch
from .verbs import VERBS, Worlds, findings, one_time

PAGE = 4096
MOST_PAGES = 12
"""More than any command on a world takes."""

FREES = ("gc", "rm --purge", "rm --unfinished")
"""Commands that must work on a full disk, because they free space."""


class NoMount(Exception):
    """This user must not mount a disk."""


@contextlib.contextmanager
def small_disk(size: str = "4m") -> Iterator[Path]:
    """A file system of this size.

    Raises:
        NoMount: why there is none.
    """
    with scratch() as folder:
        disk = folder / "disk"
        disk.mkdir()
        if os.geteuid() != 0:
            raise NoMount("only root may mount a disk")
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]
        if (done := subprocess.run(mount, capture_output=True, text=True)).returncode != 0:
            raise NoMount(done.stderr.strip())
        try:
            yield disk
        finally:
            subprocess.run(["umount", "-l", disk], check=True)


def campaign(names: Iterable[str] = VERBS, pages: Iterable[int] = range(MOST_PAGES)) -> Tally:
    """Run each command with each number of free pages."""
    tally = Tally()
    with small_disk() as disk, one_time():
        for name in names:
            verb = VERBS[name]
            worlds = Worlds(disk, verb)
            verb.run(world := worlds.fresh())
            before, after = verb.state(worlds.template), verb.state(world)
            worlds.drop(world)
            for n in pages:
                where = f"{name}, {n} pages are free"
                world = worlds.fresh(shutil.copy2)  # deleting one of two links frees nothing
                _fill(disk / "filler", n)
                said_done = _ran(verb, world, where, tally)
                if verb.state(world) not in (before, after):
                    tally.loss(where, "on the full disk it is neither before nor after")
                if not verb.repairs and (found := findings(world)):
                    tally.loss(where, f"on the full disk, check found {found}")
                (disk / "filler").unlink()
                if name in FREES and not said_done:
                    tally.loss(where, "it does not work on a full disk")
                is_after = look_at(verb, world, where, tally, before=before, after=after)
                if said_done and not is_after:
                    tally.loss(where, "it reported success, and is not done")
                worlds.drop(world)
            shutil.rmtree(worlds.template)
    return tally


def _fill(filler: Path, n_pages: int) -> None:
    free = os.statvfs(filler.parent)
    filler.write_bytes(b"x" * ((free.f_bavail - n_pages) * free.f_frsize))


def _ran(verb, world: Path, where: str, tally: Tally) -> bool:
    """Whether the command reported success; a refusal is counted as a fault."""
    try:
        verb.run(world)
    except CnsctlError:
        tally.faults += 1
        return False
    except Exception as err:  # noqa: BLE001  it is counted
        tally.unexpected(where, err)
        return False
    tally.operations += 1
    return True
