"""A file that cannot be read is named, and not called unwritable; damage is exit 6. All commands, every file that they read.

The faults are those of a disk with bad sectors: a file can be opened, and reading it fails without its name.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from commands import at, cnsctl
from unreadable import Reads

from cnsctl.store import Store

LINES = {
    "ls": ["ls"],
    "show": ["show", "dog", "--overlaps"],
    "log": ["log"],
    "gallery": ["gallery", "-o", "OUT/g.html"],
    "mv": ["mv", "dog", "rex"],
    "rm": ["rm", "dog", "-y"],
    "rm --purge": ["rm", "dog", "--purge", "-y"],
    "undo": ["undo"],
    "gc": ["gc"],
    "check": ["check"],
    "check --read-data": ["check", "--read-data"],
    "doctor": ["doctor"],
    "migrate": ["migrate"],
    "backup": ["backup", "OUT/b.tar", "--with-base"],
    "export": ["export", "dog", "--format", "native", "-o", "OUT"],
    "export bundle": ["export", "dog", "cap", "--format", "bundle", "-o", "OUT"],
    "export lora-exact": ["export", "dog", "--format", "lora-exact", "-o", "OUT"],
    "verify": ["verify"],
    "base": ["base"],
    "gen": ["gen", "<dog>", "--steps", 1, "-o", "OUT/a.png"],
}
"""Every command that reads a store and computes little. `restore` and `import` read files of their own, `add` images."""

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


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def places(shared_store, tiny_folder, images_of_two, tmp_path_factory):
    """A store with a previous generation, its base model outside, images, and files to import and restore."""
    folder = tmp_path_factory.mktemp("unreadable")
    store, base = folder / "s0", shutil.copytree(tiny_folder, folder / "base")
    shutil.copytree(shared_store, store)
    shutil.copytree(images_of_two, folder / "images")
    for line in (
        ("base", "--at", base),
        ("mv", "hat", "cap"),
        ("gen", "x", "--steps", 1, "-o", folder / "x.png"),  # fills the cache
        ("export", "dog", "--format", "bundle", "-o", folder / "in"),
        ("export", "dog", "--format", "lora-exact", "-o", folder / "in"),
        ("export", "dog", "--format", "native", "-o", folder / "in"),
        ("backup", folder / "in" / "b.tar"),
    ):
        done = cnsctl(*line, *at(store))
        assert done.code == 0, done.err
    return folder


def run(places, line, *, store=True, change=lambda _: None):
    """Run a command on a copy of the store, which is changed before."""
    path = places / "s"
    for left in (path, places / "OUT"):
        shutil.rmtree(left, ignore_errors=True)
    if store:
        shutil.copytree(places / "s0", path)
        change(path)
    words = [str(places / w) if isinstance(w, str) and w.startswith(("OUT", "images", "in/")) else w for w in line]
    return lambda: cnsctl(*words, *at(path))


def files_read(places, line, monkeypatch, *, store=True):
    """The files that a command reads, outside of the package."""
    run_it = run(places, line, store=store)
    with monkeypatch.context() as patch:
        reads = Reads(patch, places)
        assert run_it().code == 0
    return [Path(path) for path in reads.seen]


def assert_named(places, line, monkeypatch, *, store=True, only=lambda _: True):
    """Each file that the command reads fails in turn."""
    n_faults = 0
    for path in filter(only, files_read(places, line, monkeypatch, store=store)):
        run_it = run(places, line, store=store)
        with monkeypatch.context() as patch:
            reads = Reads(patch, places, fails=str(path))
            done = run_it()
        if not reads.fired:
            continue
        n_faults += 1
        inner = path.relative_to(places / "s").as_posix() if path.is_relative_to(places / "s") else path.name
        said = done.out + done.err
        assert "cannot write" not in said, (inner, said)
        if done.code == 0:
            assert inner.startswith(RECOVERED) or line[0] in WITHOUT, (inner, said)
        else:
            assert path.name in said, (inner, said)
            assert "cannot read" in said, (inner, said)
    return n_faults


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_promise_3_every_file_that_cannot_be_read_is_named(places, monkeypatch, line):
    assert assert_named(places, line, monkeypatch) >= 1


@pytest.mark.parametrize(
    "line",
    [
        ["restore", "in/b.tar"],
        ["import", "in/dog.zip", "--rename", "dog=new"],
        ["import", "in/dog-lora-exact.safetensors", "--name", "new", "--kv-only"],
        ["import", "in/dog.delta.safetensors", "--name", "new"],
        ["add", "cat", "images/dog", "--class", "cat", "--steps", 2, "--no-measure"],
    ],
    ids=lambda line: " ".join(map(str, line[:2])),
)
def test_promise_3_a_file_of_the_user_that_cannot_be_read_is_named(places, monkeypatch, line):
    """Only the files that the line names: those of the store are above."""
    mine = (places / "in", places / "images")
    n = assert_named(
        places,
        line,
        monkeypatch,
        store=line[0] != "restore",
        only=lambda p: p.is_relative_to(mine[0]) or p.is_relative_to(mine[1]),
    )
    assert n >= 1


# damage


def flipped(data):
    data[len(data) // 2] ^= 4
    return data


DAMAGE = {"a flipped bit": flipped, "cut": lambda data: data[:-1], "gone": lambda _: None}


@pytest.fixture(scope="module")
def inside(places, tmp_path_factory):
    """The same with the base model inside the store."""
    folder = tmp_path_factory.mktemp("damage")
    assert cnsctl("backup", folder / "b.tar", "--with-base", *at(places / "s0")).code == 0
    assert cnsctl("restore", folder / "b.tar", *at(folder / "s0")).code == 0
    for before, now in (("cap", "hat"), ("hat", "cap")):  # so that there is a previous generation
        assert cnsctl("mv", before, now, *at(folder / "s0")).code == 0
    return folder


def kinds_of_files(store):
    """One file of each kind, relative to the store; two of the base model."""
    record = Store.open(store).concept("dog")
    blobs = [record["delta"], record["probe"], record["preview"], record["references"][0]]
    found = [p.relative_to(store).as_posix() for p in sorted(store.rglob("*")) if p.is_file()]
    rest = [path for path in found if not path.startswith(("blobs/", "index/", "lock", "base/"))]
    rest += ["base/model_index.json", "base/unet/diffusion_pytorch_model.safetensors"]
    return [*rest, *(f"blobs/{sha}" for sha in blobs), next(path for path in found if path.startswith("index/"))]


CHEAP = ("ls", "show", "mv", "check --read-data", "export bundle", "log", "doctor", "base")


@pytest.mark.parametrize("verb", CHEAP)
def test_promise_4_damage_of_any_kind_of_file_is_exit_6_or_does_not_matter(inside, verb):
    """No command ends with another status, or with a traceback, whatever is damaged."""
    for path in kinds_of_files(inside / "s0"):
        for how, change in DAMAGE.items():
            data = change(bytearray((inside / "s0" / path).read_bytes()) or bytearray(1))

            def damage(store, path=path, data=data):
                (store / path).unlink()
                if data is not None:
                    (store / path).write_bytes(data)

            done = run(inside, LINES[verb], change=damage)()
            assert done.code in (0, 6), (path, how, done.code, done.err)


def test_promise_4_damage_of_any_part_of_a_base_model_in_the_store_is_exit_6_when_it_is_loaded(inside):
    """The commands that load it; a flipped bit, because cut and missing files are in test_store_care."""
    base = inside / "s0" / "base"
    parts = [p.relative_to(inside / "s0").as_posix() for p in sorted(base.rglob("*")) if p.is_file()]
    for path in parts:

        def damage(store, path=path):
            data = flipped(bytearray((store / path).read_bytes()))
            (store / path).unlink()
            (store / path).write_bytes(data)

        done = run(inside, LINES["gen"], change=damage)()
        assert done.code in (0, 6), (path, done.code, done.err)
