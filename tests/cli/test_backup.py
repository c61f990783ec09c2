"""`backup` and `restore` from the shell: pipes, twins, and images that are the same byte for byte."""

from __future__ import annotations

import json

import pytest
from commands import at, cnsctl
from test_store_care import plain

from cnsctl import open_store, restore_store
from cnsctl.results import as_json
from cnsctl.store import Store

IMAGE = ("gen", "<dog> and <hat>", "--steps", 1, "--seed", 3, "-o", "-")


def test_a_restored_store_gives_the_same_images_and_proofs(stocked, tmp_path):
    """Also with the base model inside, on a machine that does not have it."""
    before = cnsctl(*IMAGE, *at(stocked))
    assert before.code == 0, before.err
    for flags in ((), ("--with-base",)):
        file, new = tmp_path / f"b{len(flags)}.tar", tmp_path / f"new{len(flags)}"
        done = cnsctl("backup", file, *flags, *at(stocked))
        assert (done.code, f"backup: {file}, 2 concepts" in done.out) == (0, True)
        assert ("not in it: the base model at" in done.out) == (not flags)
        restored = cnsctl("restore", file, *at(new))
        assert (restored.code, "concepts: dog, hat" in restored.out) == (0, True), restored.err
        assert cnsctl(*IMAGE, *at(new)).raw == before.raw
    assert Store.open(new).base.path is None
    assert cnsctl("verify", *at(new)).code == 0
    assert cnsctl("check", "--read-data", *at(new)).code == 0
    assert (new / "names").read_text() == "dog\nhat\n"
    undone = cnsctl("undo", *at(new))
    assert (undone.code, "nothing to undo" in undone.err) == (2, True)


def test_a_backup_goes_through_a_pipe(stocked, tmp_path):
    stream = cnsctl("backup", "-", *at(stocked))
    assert (stream.code, stream.err.count("error")) == (0, 0)
    assert cnsctl("backup", tmp_path / "b.tar", *at(stocked)).code == 0
    assert stream.raw == (tmp_path / "b.tar").read_bytes()
    assert cnsctl("restore", "-", *at(tmp_path / "r"), stdin=stream.raw).code == 0
    assert cnsctl("ls", "-q", *at(tmp_path / "r")).out == "dog\nhat\n"
    cut = cnsctl("restore", "-", *at(tmp_path / "cut"), stdin=stream.raw[:-1])
    assert (cut.code, "it ends in" in cut.err, (tmp_path / "cut").exists()) == (1, True, False)
    both = cnsctl("backup", "-", "--json", *at(stocked))
    assert (both.code, both.raw) == (2, b"")


def test_messages_name_the_place_and_what_to_do(stocked, tmp_path):
    file = tmp_path / "b.tar"
    assert cnsctl("backup", file, "-q", *at(stocked)).out == f"{file}\n"
    for line, code, words in (
        (("backup", file), 2, ("file already exists", "--force")),
        (("backup", stocked / "b.tar"), 2, ("inside the store", "use another FILE")),
        (("backup", tmp_path), 2, ("would replace a folder", "use another FILE")),
        (("backup", file / "x"), 2, ("not a folder", "use another FILE")),
        (("restore", file), 2, ("store already exists", "--store DIR")),
        (("restore", tmp_path / "nothing.tar"), 2, ("store already exists", "--store DIR")),
        (("restore", tmp_path / "nothing.tar", "-n"), 2, ("file not found", "FILE")),
        (("restore", stocked / "store.json", "-n"), 2, ("not a backup", "cnsctl backup")),
        (("restore", tmp_path, "-n"), 1, ("cannot read", "FILE")),
    ):
        done = cnsctl(*line, *at(stocked))
        assert (done.code, [w for w in words if w not in done.err]) == (code, []), done.err
    checked = cnsctl("restore", file, "-n", *at(stocked))
    assert (checked.code, "the backup is intact: 2 concepts" in checked.out) == (0, True)


def test_a_damaged_concept_is_named_with_exit_6(stocked, tmp_path):
    (stocked / "blobs" / Store.open(stocked).concept("hat")["probe"]).unlink()
    done = cnsctl("backup", tmp_path / "b.tar", *at(stocked))
    assert (done.code, "needed by <hat>" in done.err, "cnsctl check" in done.err) == (6, True, True)
    assert not (tmp_path / "b.tar").exists()


def test_backup_restore_and_migrate_have_twins_that_give_the_same(stocked, tmp_path):
    store, file = open_store(stocked), tmp_path / "b.tar"
    mine = plain(as_json(store.backup(file)))
    assert mine == cnsctl("backup", file, "--force", "--json", *at(stocked)).json
    checked = plain(as_json(restore_store(file, dry_run=True)))
    assert checked == cnsctl("restore", file, "-n", "--json", *at(stocked)).json
    assert restore_store(file, tmp_path / "r").concepts == ("dog", "hat")
    assert plain(as_json(store.migrate())) == cnsctl("migrate", "--json", *at(stocked)).json


@pytest.mark.parametrize("line", [["migrate"], ["migrate", "-n"]])
def test_where_nothing_is_to_be_migrated_the_command_says_so(stocked, line):
    done = cnsctl(*line, *at(stocked))
    assert (done.code, done.out) == (0, "nothing to migrate: the store has the newest format\n")


def test_a_store_of_an_older_format_is_named_before_a_training_begins(stocked, images_of_two, monkeypatch):
    from cnsctl.store import catalogue
    from cnsctl.store.migrations import STEPS

    monkeypatch.setitem(STEPS["catalogue.json"], 1, dict)
    monkeypatch.setattr(catalogue, "FORMAT", 2)
    assert cnsctl("ls", "-q", *at(stocked)).out == "dog\nhat\n"
    for line in (["add", "cat", images_of_two / "dog", "--class", "cat"], ["mv", "dog", "rex"]):
        done = cnsctl(*line, "--json", *at(stocked))
        error = json.loads(done.err)
        assert (done.code, error["code"]) == (1, "format-too-old")
        assert error["hint"] == "cnsctl backup FILE first, then cnsctl migrate"
    upgraded = cnsctl("migrate", *at(stocked))
    assert "changed catalogue.json: format 1 to 2\n" in upgraded.out
    assert "cnsctl migrate --back restores them" in upgraded.out
    assert cnsctl("mv", "dog", "rex", *at(stocked)).code == 0
