"""Each file that a command reads cannot be read, or is damaged: it is named, or the command does without it.

A new command is one more entry of `LINES`. Owns what a command may do then; must not know how a file is made unreadable.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import at, cnsctl, measure_little

from cnsctl.store import Store

from .tally import Tally, scratch
from .unreadable import Reads

LINES: dict[str, list[object]] = {
    "ls": ["ls"],
    "show": ["show", "dog", "--overlaps"],
    "log": ["log"],
    "gallery": ["gallery", "-o", "OUT/g.html"],
    "mv": ["mv", "dog", "rex"],
    "mv of another": ["mv", "cap", "hut"],
    "rm": ["rm", "dog", "-y"],
    "rm --purge": ["rm", "dog", "--purge", "-y"],
    "undo": ["undo"],
    "gc": ["gc"],
    "check": ["check"],
    "check --read-data": ["check", "--read-data"],
    "check --repair": ["check", "--repair"],
    "doctor": ["doctor"],
    "migrate": ["migrate"],
    "backup": ["backup", "OUT/b.tar", "--with-base"],
    "restore": ["restore", "in/b.tar"],
    "export": ["export", "dog", "--format", "native", "-o", "OUT"],
    "export bundle": ["export", "dog", "cap", "--format", "bundle", "-o", "OUT"],
    "export lora-exact": ["export", "dog", "--format", "lora-exact", "-o", "OUT"],
    "export checkpoint": ["export", "dog", "--format", "checkpoint", "-o", "OUT"],
    "export lora": ["export", "dog", "-o", "OUT"],
    "import bundle": ["import", "in/dog.zip", "--rename", "dog=new"],
    "import lora": ["import", "in/dog-lora-exact.safetensors", "--name", "new", "--kv-only"],
    "import delta": ["import", "in/dog.delta.safetensors", "--name", "new"],
    "init": ["init", "--base", "base"],
    "base": ["base"],
    "base --at": ["base", "--at", "base"],
    "verify": ["verify"],
    "eval": ["eval", "dog", "--no-images"],
    "gen": ["gen", "<dog>", "--steps", 1, "-o", "OUT/a.png"],
    "score": ["score", "new", "images/dog", "--class", "dog"],
    "add": ["add", "new", "images/dog", "--class", "dog", "--steps", 2, "--no-measure"],
    "add --replace": ["add", "dog", "images/dog", "--class", "dog", "--steps", 2, "--no-measure", "--replace"],
}
"""Command lines that read a store, or files of the user. Words that begin with one of `_FOLDERS` become paths."""

_FOLDERS = ("OUT", "images", "in/", "base")

MAKE_STORES = ("restore", "init")
"""Commands that run without a store."""

OUTSIDE = (*MAKE_STORES, "base --at")
"""Those that are not for a store with its base model inside."""

RECOVERED = ("store.json", "store.json.bak", "catalogue.json.bak", "catalogue.json.old", "index/", "names", "cache/")
"""Files without which a command can do its work: it uses a copy, or makes them again."""

WITHOUT = {
    "base": "a base model that cannot be read is described from the store's record, as missing",
    "doctor": "the report says that the store has a problem",
    "gallery": "a warning for each image",
    "rm": "what is damaged must be removable: the index is counted again",
    "show": "a question mark instead of the number",
}
"""Commands that go on without a file of a concept, and what they do instead."""

WRITE_BLOBS = ("add", "import")
"""Commands that go on without a file of a concept in `blobs/`: one that they write themselves is there already and is
written again, and of another concept only the index is counted again. Of images and base models they need every file."""


def _flipped(data: bytearray) -> bytearray:
    data[len(data) // 2] ^= 4
    return data


DAMAGE: Mapping[str, Callable[[bytearray], bytearray | None]] = {
    "a flipped bit": _flipped,
    "cut": lambda data: data[:-1],
    "gone": lambda _: None,
}
"""What a file becomes; None if it is deleted."""


@dataclass(frozen=True)
class World:
    """A folder with a store, a base model, images, and files to import and restore."""

    folder: Path

    @property
    def store(self) -> Path:
        """As it is before each command, which runs on a copy."""
        return self.folder / "s0"

    def prepared(self, name: str, change: Callable[[Path], object] = lambda _: None):
        """A function that runs a command on a copy of the store, which is changed before."""
        line, path = LINES[name], self.folder / "s"
        for left in (path, self.folder / "OUT"):
            shutil.rmtree(left, ignore_errors=True)
        if line[0] not in MAKE_STORES:
            shutil.copytree(self.store, path)
            change(path)
        words = [str(self.folder / w) if isinstance(w, str) and w.startswith(_FOLDERS) else w for w in line[1:]]
        return lambda: cnsctl(line[0], *words, *at(path))

    def files_read(self, name: str) -> list[Path]:
        """The files of the world that a command reads."""
        run = self.prepared(name)
        with pytest.MonkeyPatch.context() as patch:
            reads = Reads(patch, self.folder)
            done = run()
        assert done.code == 0, done.err
        return [Path(path) for path in reads.seen]

    def shown(self, path: Path) -> str:
        """A file, relative to the store if it is in it."""
        own = self.folder / "s"
        return path.relative_to(own).as_posix() if path.is_relative_to(own) else path.name

    def kinds_of_files(self) -> list[str]:
        """One file of each kind in the store, and every file of the base model there."""
        record = Store.open(self.store).concept("dog")
        blobs = [record["delta"], record["probe"], record["preview"], record["references"][0]]
        found = [p.relative_to(self.store).as_posix() for p in sorted(self.store.rglob("*")) if p.is_file()]
        rest = [path for path in found if not path.startswith(("blobs/", "index/", "lock"))]
        return [*rest, *(f"blobs/{sha}" for sha in blobs), next(path for path in found if path.startswith("index/"))]


def outside(folder: Path) -> World:
    """A store whose base model is outside, with a previous generation."""
    from tiny import make_base, some_images

    folder.mkdir(parents=True)
    base = make_base(folder / "base")
    for name in ("dog", "hat"):
        some_images(name, 3, folder / "images" / name)
    world = World(folder)
    for line in (
        ("init", "--base", base),
        *(("add", name, folder / "images" / name, "--class", name, "--steps", 2) for name in ("dog", "hat")),
        ("mv", "hat", "cap"),
        ("gen", "x", "--steps", 1, "-o", folder / "x.png"),  # fills the cache
        *(("export", "dog", "--format", form, "-o", folder / "in") for form in ("bundle", "lora-exact", "native")),
        ("backup", folder / "in" / "b.tar"),
    ):
        done = cnsctl(*line, *at(world.store))
        assert done.code == 0, done.err
    return world


def inside(other: World, folder: Path) -> World:
    """The same with the base model inside the store."""
    folder.mkdir(parents=True)
    for name in ("images", "in", "base"):
        shutil.copytree(other.folder / name, folder / name)
    world, backup = World(folder), folder / "b.tar"
    assert cnsctl("backup", backup, "--with-base", *at(other.store)).code == 0
    twice = ("mv", "cap", "hat"), ("mv", "hat", "cap")  # so that there is a previous generation
    for line in (("restore", backup), *twice):
        assert cnsctl(*line, *at(world.store)).code == 0
    return world


def unreadable(world: World, name: str, tally: Tally, *, only: Callable[[Path], bool] = lambda _: True) -> None:
    """Each file that a command reads fails in turn, as on a disk with bad sectors."""
    for path in filter(only, world.files_read(name)):
        run, inner = world.prepared(name), world.shown(path)
        with pytest.MonkeyPatch.context() as patch:
            reads = Reads(patch, world.folder, fails=str(path))
            done = _outcome(run, f"{name}, {inner}", tally)
        if done is None or not reads.fired:
            continue
        tally.faults += 1
        said = done.out + done.err
        if "cannot write" in said:
            tally.loss(f"{name}, {inner}", f"it is called unwritable: {said}")
        if done.code == 0:
            verb = LINES[name][0]
            needless = inner.startswith(RECOVERED) or (verb in WRITE_BLOBS and inner.startswith("blobs/"))
            if not needless and verb not in WITHOUT:
                tally.loss(f"{name}, {inner}", "nothing is said")
        elif path.name not in said or "cannot read" not in said:
            tally.loss(f"{name}, {inner}", f"it is not named: {said}")


def damaged(world: World, name: str, tally: Tally, files: Iterable[str], hows: Iterable[str] = tuple(DAMAGE)) -> None:
    """Files of the store are damaged in turn: the status is 6, or 0 where the file does not matter."""
    for path in files:
        for how in hows:
            data = DAMAGE[how](bytearray((world.store / path).read_bytes()) or bytearray(1))

            def change(store: Path, path=path, data=data) -> None:
                (store / path).unlink()
                if data is not None:
                    (store / path).write_bytes(data)

            done = _outcome(world.prepared(name, change), f"{name}, {path}, {how}", tally)
            tally.inputs += 1
            # without a previous generation there is nothing to undo
            allowed = (0, 6, 2) if (name, path, how) == ("undo", "catalogue.json.bak", "gone") else (0, 6)
            if done is not None and done.code not in allowed:
                tally.loss(f"{name}, {path}, {how}", f"status {done.code}: {done.err}")


def _outcome(run, where: str, tally: Tally):
    try:
        done = run()
    except Exception as err:  # noqa: BLE001  it is counted
        return tally.unexpected(where, err)
    tally.operations += 1
    if "Traceback" in done.err:
        tally.loss(where, done.err)
    return done


@contextlib.contextmanager
def _quick() -> Iterator[None]:
    """Without waiting for a disk, with as little measuring as in the tests, and with few prompts for a fitted LoRA."""
    from cnsctl.engine import lora_effect

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        measure_little(patch)
        for name in ("calibration_prompts", "measured_prompts"):
            some = getattr(lora_effect, name)
            patch.setattr(lora_effect, name, lambda *args, some=some: some(*args)[::40])
        yield


def campaign(names: Iterable[str]) -> Tally:
    """Every file and every kind of damage, for some commands."""
    tally = Tally()
    with scratch() as folder, _quick():
        first = outside(folder / "outside")
        second = inside(first, folder / "inside")
        for name in names:
            unreadable(first, name, tally)
            if name not in OUTSIDE:
                damaged(second, name, tally, second.kinds_of_files())
    return tally
