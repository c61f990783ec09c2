"""The commands that change something on a disk, each on a small world: a store, files to read, and a folder to write to.

A new command is one more entry of `VERBS`. Owns what each must lead to; must not know how a command is disturbed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from store_samples import CREATED, add, base_record, make_delta, new_store

from cnsctl.app import concepts, export, import_, train
from cnsctl.app.backup import backup
from cnsctl.app.check import check
from cnsctl.app.collect import collect
from cnsctl.app.import_files import ImportRequest
from cnsctl.app.requests import Admitted, TrainRequest
from cnsctl.app.restore import restore
from cnsctl.app.undo import undo
from cnsctl.concept import Mode
from cnsctl.errors import StoreNotFoundError
from cnsctl.events import result_of
from cnsctl.settings import Memory
from cnsctl.store import Store, blobs, catalogue, files, transaction
from cnsctl.store.files import TEMP_PREFIX

STORES = ("s", "t")
"""Folders of a world that may contain a store: the one of all commands, and the one that some create."""

OPENED_BASE = {"model_index.json": b"{}", "unet/weights": b"weights of a base model"}


@dataclass(frozen=True)
class Verb:
    """A command on a world."""

    run: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda world: None
    """Makes the world that it needs out of the template."""
    repairs: bool = False
    """The world is damaged before, and may be after a failure."""
    forgets: bool = False
    """It forgets the previous generation before it has done anything else."""

    def state(self, world: Path) -> object:
        return state_of(world, forgets=self.forgets)


def build(world: Path) -> Path:
    """dog and cat, of which cat was the last change but one; an interrupted training; an old file that nothing needs."""
    store = new_store(world / "s")
    for i, name in enumerate(("dog", "cat", "cap")):
        add(store, name, i)
    orphan = blobs.put(store.path / "blobs", b"of a change that was never committed")
    with store.work.reserve("hat") as work:
        for name in ("latents", "memory", "state"):
            (work / name).write_bytes(name.encode() * 20)
    result_of(concepts.remove(store, ["cap"]))
    os.utime(store.path / "blobs" / orphan, (0, 0))
    other = new_store(world / "other")
    for i, name in enumerate(("fox", "owl")):
        add(other, name, 20 + i)
    for name in ("in", "out"):
        (world / name).mkdir()
    export_bundle(other, ["fox", "owl"], world / "in" / "b.zip")
    export_bundle(other, ["owl"], world / "out" / "e.zip")
    for path, content in OPENED_BASE.items():
        (world / "in" / "base" / path).parent.mkdir(parents=True, exist_ok=True)
        (world / "in" / "base" / path).write_bytes(content)
    shutil.rmtree(world / "other")
    return world


def opened(world: Path) -> Store:
    return Store.open(world / "s", wait_s=1)


def export_bundle(store: Store, names: list[str], file: Path) -> object:
    request = export.ExportRequest(names=names, output=file, force=True, settings={"format": "bundle"})
    return result_of(export.export(store, request))


def trained(world: Path, name: str = "hat", seed: int = 7) -> object:
    """`add` from the end of its training on: nothing before writes to the store."""
    selected = SimpleNamespace(shared=0, shared_random=0, share=0.1, neurons=9)
    found = SimpleNamespace(delta=make_delta(seed), selected=selected)
    image = SimpleNamespace(pixels=np.zeros((2, 2, 3), np.uint8), caption=None)
    settings = SimpleNamespace(accumulate=1, steps=1, batch_size=1, learning_rate=1.0, token_learning_rate=1.0)
    job = SimpleNamespace(settings=settings, latents=[0], prior=None)
    admitted = Admitted(class_word="dog", source="name", images=[image], notes=(), warnings=())
    session = SimpleNamespace(
        store=opened(world), memory=Memory.AUTO, base=SimpleNamespace(denoiser_weights=10_000, generate_defaults=None)
    )
    alone = SimpleNamespace(is_main=True, from_main=lambda value: value)
    stubs = {
        "admit": lambda *_: admitted, "together": lambda _: alone, "understood": nothing, "long_captions": nothing,
        "started": giving(session), "make_job": giving(job), "out_of_place": nothing, "trained": giving(found),
        "refuse_long_class_word": lambda *_: None, "_with_new": lambda *_: None, "probe_record": lambda *_: b"probe",
        "now": lambda: CREATED, "STATE_FILE": "state", "compared": giving(None), "foreseen": lambda *_: (),
        "open_base": lambda _: None, "text_of": lambda *_: "{}",
    }  # fmt: skip
    request = TrainRequest(name=name, sources=[], measure=False)
    with mock.patch.multiple(train, **stubs):
        return result_of(train.train(session.store, request))


def nothing(*_args, **_options) -> Iterator[None]:
    yield from ()


def giving(value: object) -> Callable[..., Iterator[None]]:
    """A step of a workflow that only has a result."""

    def work(*_args, **_options):
        yield from ()
        return value

    return work


def imported(world: Path, renames: dict[str, str] | None = None) -> object:
    """`import` of deltas, without the base model, which only computes a record."""

    def prepared(_session, arrival, _budget):
        yield from ()
        return import_._Ready(arrival=arrival, delta=arrival.delta, probe=b"probe of " + arrival.name.encode())

    stubs = {"started": giving(None), "_prepared": prepared, "budget_of": lambda *_: 0.1, "now": lambda: CREATED}
    request = ImportRequest(files=[world / "in" / "b.zip"], renames=renames or {})
    with mock.patch.multiple(import_, **stubs):
        return result_of(import_.import_(opened(world), request))


def created(world: Path) -> object:
    shas = {path: hashlib.sha256(content).hexdigest() for path, content in OPENED_BASE.items()}
    base = base_record(files=shas)
    return Store.create(world / "t", base=base, mode=Mode.PROMPT, created=CREATED, base_files=world / "in" / "base")


def damage(world: Path) -> None:
    """What `check --repair` can make again."""
    index = min((world / "s" / "index").iterdir())
    for path, content in ((world / "s" / "store.json.bak", b"{"), (index, index.read_bytes()[:-1])):
        path.unlink()  # it may be a hard link
        path.write_bytes(content)


VERBS = {
    "init": Verb(created),
    "init in an empty folder": Verb(created, prepare=lambda world: (world / "t").mkdir()),
    "add": Verb(trained),
    "import": Verb(imported),
    "export": Verb(lambda world: export_bundle(opened(world), ["dog", "cat"], world / "out" / "e.zip")),
    "mv": Verb(lambda world: result_of(concepts.rename(opened(world), "dog", "rex"))),
    "mv --unfinished": Verb(
        lambda world: result_of(concepts.rename(opened(world), "hat", "top", only_unfinished=True))
    ),
    "rm": Verb(lambda world: result_of(concepts.remove(opened(world), ["dog"]))),
    "rm --unfinished": Verb(lambda world: result_of(concepts.remove(opened(world), ["hat"], only_unfinished=True))),
    "rm --purge": Verb(lambda world: result_of(concepts.remove(opened(world), ["dog"], purge=True)), forgets=True),
    "undo": Verb(lambda world: result_of(undo(opened(world)))),
    "gc": Verb(lambda world: collect(opened(world))),
    "backup": Verb(lambda world: result_of(backup(opened(world), world / "out" / "e.zip", force=True))),
    "restore": Verb(
        lambda world: result_of(restore(world / "in" / "s.backup", world / "t")),
        prepare=lambda world: result_of(backup(opened(world), world / "in" / "s.backup")),
    ),
    "check --repair": Verb(
        lambda world: result_of(check(opened(world), repair=True, read_data=True)), prepare=damage, repairs=True
    ),
}


def state_of(world: Path, *, forgets: bool = False) -> object:
    """What a user sees: concepts, interrupted training runs and what `undo` gives back, and the files that were written."""
    seen = []
    for name in STORES:
        try:
            store = Store.open(world / name)
        except StoreNotFoundError:
            seen.append(None)
        else:
            found = tuple((record["name"], record["id"]) for record in store.concepts())
            seen.append((found, tuple(store.work.unfinished()), None if forgets else before_of(store)))
    written = [path for path in sorted((world / "out").iterdir()) if not path.name.startswith(TEMP_PREFIX)]
    return (*seen, tuple((path.name, hashlib.sha256(path.read_bytes()).hexdigest()[:16]) for path in written))


def before_of(store: Store) -> tuple[str, ...] | None:
    """The names that `undo` leads to."""
    try:
        found = catalogue.load_previous(store.path).tables
    except FileNotFoundError:
        return None
    return tuple(record["name"] for record in catalogue.concepts_of(found))


def findings(world: Path) -> list[object]:
    """What `check --read-data` finds in the stores of a world."""
    found: list[object] = []
    for name in STORES:
        with contextlib.suppress(StoreNotFoundError):
            found += result_of(check(Store.open(world / name), read_data=True)).findings
    return found


def leftovers(world: Path) -> list[Path]:
    """Temporary files, which the next command of the same kind deletes."""
    return [path for path in world.rglob(f"{TEMP_PREFIX}*") if "in" not in path.relative_to(world).parts]


_TEMPORARY = re.compile(rf"{re.escape(TEMP_PREFIX)}(.*?)-\d+-[0-9a-f]{{12}}")


def digest(world: Path) -> str:
    """Equal for worlds that differ only in names of temporary files, in notes of locks, and in times."""
    return hashlib.sha256(repr(sorted(_files(os.fspath(world), ""))).encode()).hexdigest()


def _files(folder: str, path: str) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = path + _TEMPORARY.sub(r".tmp-\1", entry.name)
            if entry.is_dir():
                yield f"{name}/", ""
                yield from _files(entry.path, f"{name}/")
            else:
                yield name, "" if entry.name == "lock" else _content_of(entry)


_known: dict[tuple[int, int, int], str] = {}
"""Of files that many worlds share by links."""


def _content_of(entry: os.DirEntry[str]) -> str:
    found = entry.stat()
    key = (found.st_ino, found.st_mtime_ns, found.st_size)
    if found.st_nlink == 1 or key not in _known:
        sha = hashlib.sha256(Path(entry.path).read_bytes()).hexdigest()
        if found.st_nlink == 1:
            return sha
        _known[key] = sha
    return _known[key]


@contextlib.contextmanager
def one_time() -> Iterator[None]:
    """Let every command run at one moment, so that equal commands give equal bytes, and nothing is too young to delete."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction, "_now", lambda: CREATED)
        patch.setattr(transaction, "seconds_since", lambda _: 0.0)
        patch.setattr(files, "_ABANDONED_S", -1.0)
        yield


@functools.cache
def _template(parent: Path) -> Path:
    return build(parent / "template")


_NUMBERS = itertools.count()


class Worlds:
    """Copies of one prepared world, made of hard links: the product replaces files, and a lock's content means nothing."""

    def __init__(self, parent: Path, verb: Verb) -> None:
        self.parent, self.verb = parent, verb
        self.template = parent / "prepared"
        if self.template.exists():
            shutil.rmtree(self.template)
        shutil.copytree(_template(parent), self.template)
        verb.prepare(self.template)
        self._before = digest(self.template)

    def fresh(self, copy: Callable[[str, str], object] = os.link) -> Path:
        world = self.parent / f"world-{next(_NUMBERS)}"
        shutil.copytree(self.template, world, copy_function=copy)
        return world

    def drop(self, world: Path) -> None:
        shutil.rmtree(world)

    def assert_nothing_was_overwritten_in_place(self) -> None:
        assert digest(self.template) == self._before
