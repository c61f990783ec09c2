"""The power fails: what a command has written and not synced is lost, in whole, in part, or not at all.

The calls of a command are noted. For each prefix of them the disk is made as it may be found afterwards: with all, none,
all but one, or only one of the changes that no sync has made durable, and with half of a write.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults import watch

from .every_call import look_at
from .tally import Tally, scratch
from .verbs import VERBS, Verb, Worlds, one_time

_IDS = itertools.count()


@dataclass
class Disk:
    """Files and folders by number, whatever their names are."""

    root: int
    files: dict[int, bytes] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=dict)

    def copy(self) -> Disk:
        return Disk(self.root, dict(self.files), {number: dict(names) for number, names in self.folders.items()})

    def find(self, parts: Iterable[str]) -> int | None:
        found: int | None = self.root
        for part in parts:
            found = self.folders.get(found, {}).get(part) if found is not None else None
        return found

    def walk(self, number: int, path: str = "") -> Iterator[tuple[str, bytes | None]]:
        """Content by path; None for a folder."""
        for name, inner in sorted(self.folders[number].items()):
            if inner in self.folders:
                yield f"{path}{name}/", None
                yield from self.walk(inner, f"{path}{name}/")
            else:
                yield f"{path}{name}", self.files.get(inner, b"")

    def to_folder(self, place: Path) -> None:
        place.mkdir()
        for path, content in self.walk(self.root):
            if content is None:
                (place / path).mkdir()
            else:
                (place / path).write_bytes(content)


@dataclass(frozen=True)
class Names:
    """Names that come to exist, or cease to: all of them, or none."""

    synced_by: int
    """The folder whose sync makes it durable."""
    entries: tuple[tuple[int, str, int | None], ...]
    made: int | None = None
    """A folder that did not exist before."""

    def apply(self, disk: Disk) -> None:
        if self.made is not None:
            disk.folders.setdefault(self.made, {})
        for folder, name, number in self.entries:
            names = disk.folders.setdefault(folder, {})
            if number is None:
                names.pop(name, None)
            else:
                names[name] = number


@dataclass(frozen=True)
class Written:
    """Bytes of a file; without data, the file is cut off."""

    synced_by: int
    at: int
    data: bytes | None

    def apply(self, disk: Disk) -> None:
        before = disk.files.get(self.synced_by, b"").ljust(self.at, b"\0")
        after = b"" if self.data is None else self.data + before[self.at + len(self.data) :]
        disk.files[self.synced_by] = before[: self.at] + after

    def torn(self) -> Written:
        assert self.data is not None
        return Written(self.synced_by, self.at, self.data[: len(self.data) // 2])


Change = Names | Written


class Recorder:
    """The disk of a world, and what a command does to it: changes, and the numbers of what is synced."""

    def __init__(self, world: Path) -> None:
        self.world, self.log = world, list[Change | int]()
        self._now = Disk(next(_IDS))
        self._now.folders[self._now.root] = self._read(world)
        self.first = self._now.copy()
        self._opened: dict[int, int] = {}

    def _read(self, folder: Path) -> dict[str, int]:
        names = {}
        for path in folder.iterdir():
            names[path.name] = number = next(_IDS)
            if path.is_dir():
                self._now.folders[number] = self._read(path)
            else:
                self._now.files[number] = path.read_bytes()
        return names

    def call(self, name, original, *args, **kwargs):
        """The hook of `faults.watch`."""
        existed = name != "open" or self._find(args[0]) is not None
        result = original(*args, **kwargs)
        match name:
            case "open" if self._folder_of(args[0]) is not None:
                self._note_open(result, *args, existed=existed)
            case "write" | "pwrite" if args[0] in self._opened:
                at = args[2] if name == "pwrite" else os.lseek(args[0], 0, os.SEEK_CUR) - result
                self._note(Written(self._opened[args[0]], at, bytes(args[1][:result])))
            case "ftruncate" if args[0] in self._opened:
                self._note(Written(self._opened[args[0]], args[1], None))
            case "fsync" if args[0] in self._opened:
                self.log.append(self._opened[args[0]])
            case "replace" | "rename" if (folder := self._folder_of(args[1])) is not None:
                gone = (self._folder_of(args[0]), os.path.basename(args[0]), None)  # noqa: PTH119  paths may be texts
                self._note(Names(folder, ((folder, os.path.basename(args[1]), self._find(args[0])), gone)))  # noqa: PTH119
            case "link" if (folder := self._folder_of(args[1])) is not None:
                self._note(Names(folder, ((folder, os.path.basename(args[1]), self._find(args[0])),)))  # noqa: PTH119
            case "mkdir" if (folder := self._folder_of(args[0])) is not None:
                number = next(_IDS)
                self._note(Names(folder, ((folder, os.path.basename(args[0]), number),), made=number))  # noqa: PTH119
            case "unlink" | "rmdir" if (folder := self._folder_of(args[0])) is not None:
                self._note(Names(folder, ((folder, os.path.basename(args[0]), None),)))  # noqa: PTH119
        return result

    def _note_open(self, fd: int, path: object, flags: int, *_mode: object, existed: bool) -> None:
        if not existed:
            folder = self._folder_of(path)
            self._note(Names(folder, ((folder, os.path.basename(path), next(_IDS)),)))  # noqa: PTH119
        self._opened[fd] = number = self._find(path)
        if existed and flags & os.O_TRUNC:
            self._note(Written(number, 0, None))

    def _note(self, change: Change) -> None:
        change.apply(self._now)
        self.log.append(change)

    def _parts(self, path: object) -> list[str]:
        return list(Path(os.path.relpath(os.fspath(path), self.world)).parts)

    def _find(self, path: object) -> int | None:
        return self._now.find(self._parts(path))

    def _folder_of(self, path: object) -> int | None:
        return self._now.find(self._parts(path)[:-1])


def campaign(names: Iterable[str] = VERBS) -> Tally:
    """Let the power fail after each call of these commands."""
    tally = Tally()
    with scratch() as folder, one_time():
        for name in names:
            worlds = Worlds(folder, VERBS[name])
            world = worlds.fresh()
            recorder = Recorder(world)
            with pytest.MonkeyPatch.context() as patch:
                watch(patch, recorder.call)
                VERBS[name].run(world)
            verb = VERBS[name]
            states = (verb.state(worlds.template), verb.state(world))
            _replay(name, verb, recorder, folder, tally, states)
            worlds.drop(world)
    return tally


def _replay(
    name: str, verb: Verb, recorder: Recorder, folder: Path, tally: Tally, states: tuple[object, object]
) -> None:
    known: dict[object, bool] = {}
    for n in range(len(recorder.log) + 1):
        pending = _pending(recorder.log[:n])
        for variant, changes in _variants(recorder.log[:n], pending):
            disk = recorder.first.copy()
            for change in changes:
                change.apply(disk)
            tally.faults += 1
            where = f"{name}, the power fails after call {n} of {len(recorder.log)}: {variant}"
            content = tuple(disk.walk(disk.root))
            if content not in known:
                place = folder / "replayed"
                disk.to_folder(place)
                known[content] = look_at(verb, place, where, tally, before=states[0], after=states[1])
                shutil.rmtree(place)
            if n == len(recorder.log) and not known[content]:
                tally.loss(where, "it reported success, and is not done")


def _pending(log: list[Change | int]) -> list[int]:
    """The places in the log of the changes that no later sync has made durable."""
    found: list[int] = []
    for place, entry in enumerate(log):
        if isinstance(entry, int):
            found = [one for one in found if log[one].synced_by != entry]
        else:
            found.append(place)
    return found


def _variants(log: list[Change | int], pending: list[int]) -> Iterator[tuple[str, list[Change]]]:
    """What may be on the disk after these calls."""
    for lost, text in (
        ((), "nothing is lost"),
        (pending, "all is lost that was not synced"),
        *(([one], f"change {one} alone is lost") for one in pending),
        *(([other for other in pending if other != one], f"change {one} alone is not lost") for one in pending),
    ):
        yield text, _without(log, lost)
    for one in pending:
        if isinstance(log[one], Written) and log[one].data:
            yield f"half of change {one} is lost", _without({**dict(enumerate(log)), one: log[one].torn()}, ())


def _without(log: Mapping[int, Change | int] | list[Change | int], lost: Iterable[int]) -> list[Change]:
    gone = set(lost)
    places = log.items() if isinstance(log, dict) else enumerate(log)
    return [entry for place, entry in places if not isinstance(entry, int) and place not in gone]
