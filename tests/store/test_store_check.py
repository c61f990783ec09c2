"""Rules of check and repair: every damaged byte is found, nothing is deleted, what is derivable is made again."""

import os
import shutil

import pytest
from store_samples import add, assert_sound, manifest_of, new_store, write_manifest

from cnsctl.app.check import check, problem
from cnsctl.cli.hints import hint_of
from cnsctl.store import Store


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    store = new_store(tmp_path_factory.mktemp("check") / "s")
    add(store, "dog", 0)
    add(store, "cat", 1)
    add(store, "hat", 2)
    with store.transaction("rm") as tx:
        tx.remove("hat")
    return store.path


@pytest.fixture
def path(template, tmp_path):
    return shutil.copytree(template, tmp_path / "s")


def checked(path, **options):
    """The result of a check."""
    work = check(Store.open(path), **options)
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(bytes(data))


def everything(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("read_data", [False, True])
def test_a_sound_store_has_no_problems_and_is_not_changed(path, read_data):
    before = everything(path)
    result = checked(path, read_data=read_data)
    assert result.findings == ()
    assert problem(result) is None
    assert (result.concepts, result.unreferenced) == (2, 3)  # delta, probe record and first image of hat
    assert everything(path) == before


def test_promise_4_a_changed_byte_of_any_file_is_found_by_reading_the_data(path):
    """Except in the lock and the list of names, which decide nothing."""
    for name, data in everything(path).items():
        if name in ("lock", "names"):
            continue
        for at in (0, len(data) // 2, len(data) - 1):
            flip(path / name, at)
            result = checked(path, read_data=True)
            parts = {finding.part for finding in result.findings}
            assert len(parts) == 1, (name, at)
            assert parts <= {name, name.partition("/")[0]}, (name, at)
            assert problem(result).exit_status == 6
            (path / name).write_bytes(data)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("store.json", "written again from its copy"),
        ("store.json.bak", "written again from its copy"),
        ("catalogue.json", "went back to the previous generation"),
        ("catalogue.json.bak", "replaced by the present generation"),
        ("index", "counted again from the deltas"),
    ],
)
def test_what_is_derivable_is_made_again_and_the_damaged_bytes_are_kept(path, name, words):
    files = sorted((path / name).iterdir()) if name == "index" else [path / name]
    for file in files:
        flip(file, 40)
    damaged = files[0].read_bytes()
    result = checked(path, repair=True)
    assert [(f.part, f.kind, f.repaired) for f in result.findings] == [(name, "derived", words)]
    assert problem(result) is None
    if name != "index":
        assert (path / "damaged" / name).read_bytes() == damaged
    assert checked(path, read_data=True).findings == ()
    assert sorted(assert_sound(path)) == ["cat", "dog", "hat"] if name == "catalogue.json" else ["cat", "dog"]


@pytest.mark.parametrize("way", ["flipped", "missing", "short"])
def test_a_damaged_delta_is_lost_and_harms_its_concept_alone(path, way):
    record = Store.open(path).concept("dog")
    file = path / "blobs" / record["delta"]
    if way == "flipped":
        flip(file, 99)
    elif way == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    assert bool(checked(path).findings) == (way != "flipped"), "a flipped bit needs reading"
    for repair in (True, False):
        result = checked(path, read_data=True, repair=repair)
        (finding,) = [f for f in result.findings if f.part.startswith("blobs/")]
        assert (finding.part, finding.concepts, finding.kind) == (f"blobs/{record['delta']}", ("dog",), "lost")
        assert problem(result).exit_status == 6
    assert not file.exists()
    assert (path / "damaged" / record["delta"]).exists() == (way != "missing")
    assert "cnsctl rm dog" in hint_of(problem(result)), "now the cause is certain"
    store = Store.open(path)
    assert store.delta(store.concept("cat"))
    with store.transaction("rm") as tx:
        tx.remove("dog")
    assert checked(path, read_data=True).findings == ()
    assert assert_sound(path) == ["cat"]


@pytest.mark.parametrize("way", ["gone", "empty"])
def test_a_disk_that_is_not_mounted_is_one_problem_and_no_command_that_removes_is_advised(path, way):
    shutil.move(path / "blobs", path.parent / "elsewhere")
    if way == "empty":
        (path / "blobs").mkdir()
    before = everything(path)
    for repair in (False, True):
        result = checked(path, read_data=True, repair=repair)
        (finding,) = result.findings
        assert "mounted" in finding.problem
        assert (finding.part, finding.concepts, finding.repaired) == ("blobs", ("dog", "cat"), None)
        assert "rm" not in hint_of(problem(result)).split()
    assert everything(path) == before
    if way == "empty":
        (path / "blobs").rmdir()
    shutil.move(path.parent / "elsewhere", path / "blobs")
    assert assert_sound(path) == ["dog", "cat"]


def test_the_store_json_of_another_store_is_one_problem_and_nothing_is_moved(path):
    payload = manifest_of(path)
    payload["base"]["fingerprint"] = "e" * 64
    write_manifest(path, payload)
    before = sorted(p.name for p in (path / "blobs").iterdir())
    result = checked(path, read_data=True, repair=True)
    assert "another store" in next(f for f in result.findings if f.part == "store.json").problem
    assert "rm" not in hint_of(problem(result)).split()
    assert sorted(p.name for p in (path / "blobs").iterdir()) == before


def test_a_catalogue_that_cannot_be_restored_is_lost(path):
    for name in ("catalogue.json", "catalogue.json.bak"):
        flip(path / name, 40)
    result = checked(path, repair=True)
    assert {f.part: (f.kind, f.repaired) for f in result.findings}["catalogue.json"] == ("lost", None)
    assert "backup" in hint_of(problem(result))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(path):
    record = Store.open(path).concept("dog")
    (path / "blobs" / record["delta"]).chmod(0)
    (finding,) = checked(path, read_data=True).findings
    assert "permission denied" in finding.problem


def test_a_file_of_the_base_model_in_the_store_is_checked(tmp_path):
    from store_samples import CREATED, base_record

    from cnsctl.concept import Mode
    from cnsctl.formats.canonical import sha256

    source = tmp_path / "base"
    source.mkdir()
    (source / "model.bin").write_bytes(b"weights")
    base = base_record(files={"model.bin": sha256(b"weights")})
    Store.create(tmp_path / "s", base=base, mode=Mode.PROMPT, created=CREATED, base_files=source)
    assert checked(tmp_path / "s", read_data=True).findings == ()
    (tmp_path / "s" / "base" / "model.bin").write_bytes(b"Weights")
    assert checked(tmp_path / "s").findings == ()
    assert [f.part for f in checked(tmp_path / "s", read_data=True).findings] == ["base/model.bin"]
    (tmp_path / "s" / "base" / "model.bin").unlink()
    assert [f.problem for f in checked(tmp_path / "s").findings] == ["it is missing"]
