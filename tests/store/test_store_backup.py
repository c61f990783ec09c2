"""Backups: what is in one, that it is whole while others write, and that a damaged or hostile one is refused in words."""

import errno
import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from faults import CALLS, LOCKS, Fault, Killed
from store_samples import add, assert_sound, base_record, names_in, new_store

from cnsctl.app import backup as of_backup
from cnsctl.app import concepts
from cnsctl.app.backup import backup
from cnsctl.app.check import check
from cnsctl.app.restore import restore
from cnsctl.concept import Mode
from cnsctl.errors import (
    CnsctlError,
    DamagedFileError,
    DiskError,
    FormatTooNewError,
    StoreDamagedError,
    StoreLockedError,
    UnknownFormatError,
    UsageError,
)
from cnsctl.events import Note, result_of
from cnsctl.formats import canonical
from cnsctl.store import Store, backup_file
from cnsctl.store.backup_file import LIST, Member, write_backup
from cnsctl.store.seal import sealed


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    """No power is cut here. The order of calls is the same."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """dog and cat, after cap was removed."""
    store = new_store(tmp_path_factory.mktemp("backups") / "s")
    for i, name in enumerate(("dog", "cat", "cap")):
        add(store, name, i)
    result_of(concepts.remove(store, ["cap"]))
    return store.path


@pytest.fixture
def store(template, tmp_path):
    return Store.open(Path(shutil.copytree(template, tmp_path / "s")))


@pytest.fixture(scope="module")
def whole(template, tmp_path_factory):
    """A backup of it."""
    file = tmp_path_factory.mktemp("files") / "b.tar"
    result_of(backup(Store.open(template), file))
    return file


def restored(file, path):
    result_of(restore(file, path))
    return Store.open(path)


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_restored_store_has_the_bytes_of_the_committed_state(template, whole, tmp_path):
    new = restored(whole, tmp_path / "r")
    assert assert_sound(new.path) == ["dog", "cat"]
    assert result_of(check(new, read_data=True)).findings == ()
    before, after = files_of(template), files_of(new.path)
    assert {path for path in before if path not in after} == {
        "catalogue.json.bak",
        *(f"blobs/{sha}" for sha in names_in(template / "blobs") if sha not in names_in(new.path / "blobs")),
        *(f"index/{sha}" for sha in names_in(template / "index") if sha not in names_in(new.path / "index")),
    }
    assert after == {path: before[path] for path in after}
    assert [run["name"] for run in new.runs()] == [run["name"] for run in Store.open(template).runs()], "the log"


def test_promise_8_no_byte_of_a_removed_concept_is_in_a_backup(template, whole):
    """Although `undo` could restore it in the store itself."""
    assert b"png of cap" in b"".join(files_of(template).values())
    assert b"png of cap" not in whole.read_bytes()
    assert b"png of dog" in whole.read_bytes()


def test_equal_stores_give_equal_backups(store, whole, tmp_path):
    result_of(backup(store, tmp_path / "b.tar"))
    assert (tmp_path / "b.tar").read_bytes() == whole.read_bytes()
    again = restored(whole, tmp_path / "r")
    result_of(backup(again, tmp_path / "c.tar"))
    assert (tmp_path / "c.tar").read_bytes() == whole.read_bytes()


def test_any_tar_program_unpacks_a_store_that_works(whole, tmp_path):
    with tarfile.open(whole) as tar:
        assert tar.getnames()[:2] == [LIST, "store/store.json"]
        assert all(info.isreg() for info in tar)
        tar.extractall(tmp_path, filter="data")
    assert assert_sound(tmp_path / "store") == ["dog", "cat"]
    add(Store.open(tmp_path / "store"), "new", 9)
    assert result_of(check(Store.open(tmp_path / "store"), read_data=True)).findings == ()


def test_a_backup_is_read_from_a_pipe_as_from_a_file(store, tmp_path):
    class Pipe(io.RawIOBase):
        """Returns few bytes at a time, and cannot seek."""

        def __init__(self, data):
            self.data, self.at = data, 0

        def read(self, size=-1):
            piece = self.data[self.at : self.at + min(size, 1000)]
            self.at += len(piece)
            return piece

    out = io.BytesIO()
    result_of(backup(store, Path("-"), stdout=out))
    result_of(restore(Path("-"), tmp_path / "r", stdin=Pipe(out.getvalue())))
    assert assert_sound(tmp_path / "r") == ["dog", "cat"]


def test_a_path_that_is_too_long_for_one_header_is_written_and_read():
    member = Member(path=f"base/{'long' * 60}.json", bytes=1, sha256=canonical.sha256(b"x"))
    out = io.BytesIO()
    list(write_backup(out, [member], lambda _: [b"x"]))
    assert len(out.getvalue()) == backup_file.size_of([member])
    reader = backup_file.BackupReader(io.BytesIO(out.getvalue()), "b")
    assert [(m, b"".join(pieces)) for m, pieces in reader.contents()] == [(member, b"x")]
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert tar.getnames()[1] == f"store/{member.path}"


def test_memory_does_not_grow_with_the_files(tmp_path, monkeypatch):
    """A member of four pieces: no read or write is larger than one piece."""
    monkeypatch.setattr(backup_file, "PIECE", 1000)
    member = Member(path="base/x", bytes=4000, sha256=canonical.sha256(b"x" * 4000))
    out = io.BytesIO()
    list(write_backup(out, [member], lambda _: [b"x" * 1000] * 4))
    reader = backup_file.BackupReader(io.BytesIO(out.getvalue()), "b")
    assert [[len(piece) for piece in pieces] for _, pieces in reader.contents()] == [[1000] * 4]


# while other commands write


def test_promise_2_a_backup_is_of_one_moment_while_others_write(store, whole, tmp_path, monkeypatch):
    """Concepts are added, renamed and removed between any two blobs: the backup has the concepts of the beginning."""
    honest, changes = of_backup.Plan.read, []

    def read(planned, member):
        if member.path.startswith("blobs/"):
            other = Store.open(store.path)
            add(other, f"new{len(changes)}", len(changes))
            if len(changes) == 2:
                result_of(concepts.rename(other, "dog", "rex"))
            if len(changes) == 3:
                result_of(concepts.remove(other, ["rex", "new1"]))
            changes.append(member)
        return honest(planned, member)

    with monkeypatch.context() as patch:
        patch.setattr(of_backup.Plan, "read", read)
        result_of(backup(store, tmp_path / "b.tar"))
    assert len(changes) > 5
    assert (tmp_path / "b.tar").read_bytes() == whole.read_bytes()


def purging(store, monkeypatch, names):
    """Each attempt: remove one of some concepts, with its files, before the first blob is read."""
    honest, seen = of_backup.Plan.read, []

    def read(planned, member):
        if member.path.startswith("blobs/") and names and planned not in seen:
            seen.append(planned)
            result_of(concepts.remove(Store.open(store.path), [names.pop()], purge=True))
        return honest(planned, member)

    monkeypatch.setattr(of_backup.Plan, "read", read)


def test_a_file_that_is_purged_while_it_is_written_is_not_in_the_backup(store, tmp_path, monkeypatch):
    purging(store, monkeypatch, ["dog"])
    assert result_of(backup(store, tmp_path / "b.tar")).concepts == ("cat",)
    assert assert_sound(restored(tmp_path / "b.tar", tmp_path / "r").path) == ["cat"]
    assert b"png of dog" not in (tmp_path / "b.tar").read_bytes()


def test_a_stream_cannot_begin_again_so_it_says_so(store, monkeypatch):
    purging(store, monkeypatch, ["dog"])
    with pytest.raises(StoreLockedError, match="another process has removed"):
        result_of(backup(store, Path("-"), stdout=io.BytesIO()))


def test_a_store_that_changes_again_and_again_is_given_up(store, tmp_path, monkeypatch):
    add(store, "one", 5)
    purging(store, monkeypatch, ["dog", "cat", "one"])
    with pytest.raises(StoreLockedError):
        result_of(backup(store, tmp_path / "b.tar"))
    assert names_in(tmp_path) == ["s"]


def test_an_unfinished_training_is_named_because_it_is_not_in_the_backup(store, tmp_path):
    with store.work.reserve("bird") as work:
        (work / "state.safetensors").write_bytes(b"x")
    events = list(backup(store, tmp_path / "b.tar"))
    assert ["<bird>" in e.text for e in events if isinstance(e, Note)] == [True]
    assert not (restored(tmp_path / "b.tar", tmp_path / "r").path / "work").exists()


# places


def test_a_file_is_overwritten_only_if_asked_and_never_inside_the_store(store, tmp_path):
    (tmp_path / "b.tar").write_bytes(b"mine")
    with pytest.raises(UsageError, match="already exists"):
        result_of(backup(store, tmp_path / "b.tar"))
    assert (tmp_path / "b.tar").read_bytes() == b"mine"
    result_of(backup(store, tmp_path / "b.tar", force=True))
    with pytest.raises(UsageError, match="inside the store"):
        result_of(backup(store, store.path / "b.tar"))
    with pytest.raises(UsageError, match="replace a folder"):
        result_of(backup(store, tmp_path, force=True))


@pytest.mark.parametrize("there", ["store", "file", "folder with a file"])
def test_restore_never_writes_where_something_is(store, whole, tmp_path, there):
    path = tmp_path / "there"
    if there == "file":
        path.write_bytes(b"mine")
    elif there == "store":
        path = store.path
    else:
        path.mkdir()
        (path / "mine").write_bytes(b"")
    before = files_of(tmp_path)
    with pytest.raises(UsageError):
        result_of(restore(whole, path))
    assert files_of(tmp_path) == before


def test_a_store_is_restored_into_an_empty_folder_and_a_dry_run_writes_nothing(whole, tmp_path):
    result = result_of(restore(whole, None, dry_run=True))
    assert (result.store, result.concepts, names_in(tmp_path)) == (None, ("dog", "cat"), [])
    (tmp_path / "r").mkdir()
    assert assert_sound(restored(whole, tmp_path / "r").path) == ["dog", "cat"]
    assert names_in(tmp_path) == ["r"]


# damage


def test_a_damaged_store_gives_no_backup_and_names_the_concept(store, tmp_path):
    path = store.path / "blobs" / store.concept("dog")["references"][0]
    for content in (path.read_bytes()[:-1] + b"?", None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(StoreDamagedError, match="needed by <dog>") as caught:
            result_of(backup(store, tmp_path / "b.tar"))
        assert path.name in caught.value.what
        assert names_in(tmp_path) == ["s"]


def test_an_unreadable_file_is_named_and_not_called_unwritable(store, tmp_path, monkeypatch):
    honest = os.read

    def read(fd, size):
        if "/blobs/" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(errno.EIO, "fault")
        return honest(fd, size)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "read", read)
    with pytest.raises(DiskError, match=f"cannot read {store.path}/blobs/"):
        result_of(backup(store, tmp_path / "b.tar"))


def refused(content, tmp_path):
    """What restore says about a backup with this content; nothing of it is left."""
    file, path = tmp_path / "bad.tar", tmp_path / "r"
    file.write_bytes(content)
    with pytest.raises((DamagedFileError, UnknownFormatError, FormatTooNewError)) as caught:
        result_of(restore(file, path))
    assert names_in(tmp_path) == ["bad.tar"]
    return caught.value


def test_promise_4_every_bit_of_a_backup_is_checked(whole):
    """Also those of headers, and of the zeros between files. Only the reader itself runs: 10,000 stores take long."""
    content = bytearray(whole.read_bytes())

    def read():
        for _, pieces in backup_file.BackupReader(io.BytesIO(content), "b").contents():
            list(pieces)

    read()
    ends = [i * 512 + at for i in range(len(content) // 512) for at in (0, 101, 124, 156, 300, 511)]
    for at in sorted({*range(2048), *ends, *range(len(content) - 1024, len(content), 64)}):
        content[at] ^= 1 << at % 8
        with pytest.raises((DamagedFileError, UnknownFormatError, FormatTooNewError)):
            read()
        content[at] ^= 1 << at % 8


def test_promise_4_a_backup_that_is_cut_or_longer_is_refused(whole, tmp_path):
    content = whole.read_bytes()
    for length in (0, 1, 511, 512, 1000, 5000, len(content) // 2, len(content) - 1024, len(content) - 1):
        err = refused(content[:length], tmp_path)
        assert "it ends in" in err.what or "not a backup" in err.what, length
    assert "bytes after its end" in refused(content + b"\0", tmp_path).what


def made(members, *, content=None):
    """A backup with these members, by path, and the right hashes; or one with another list."""
    listed = [Member(path=path, bytes=len(data), sha256=canonical.sha256(data)) for path, data in members]
    out = io.BytesIO()
    data = dict(members)
    if content is None:
        list(write_backup(out, listed, lambda m: [data[m.path]]))
    else:
        sealed_list = sealed(canonical.dump(content), backup_file.FORMAT)
        out.write(backup_file._header(LIST, len(sealed_list)) + sealed_list + backup_file._padding(len(sealed_list)))
    return out.getvalue()


def contents(whole):
    reader = backup_file.BackupReader(io.BytesIO(whole.read_bytes()), "b")
    return [(member.path, b"".join(pieces)) for member, pieces in reader.contents()]


EVIL = {
    "a path outside": ("../evil", "is not a path in a store"),
    "an absolute path": ("/etc/evil", "is not a path in a store"),
    "an escape of a terminal": ("base/\x1b[2J", "is not a path in a store"),
    "a file that no concept needs": ("base/x", "no concept needs base/x"),
    "another part of a store": ("work/cat/state.safetensors", "no concept needs work"),
}


@pytest.mark.parametrize(("path", "why"), EVIL.values(), ids=EVIL)
def test_promise_5_a_hostile_path_is_refused(whole, tmp_path, path, why):
    err = refused(made([*contents(whole), (path, b"evil")]), tmp_path)
    assert why in err.what
    assert "\x1b" not in err.what


def test_promise_5_a_backup_has_exactly_the_files_that_its_catalogue_needs(whole, tmp_path):
    files = contents(whole)
    assert "is missing" in refused(made(files[:-1]), tmp_path).what
    assert "does not begin with" in refused(made(files[1:]), tmp_path).what
    swapped = [(path, b"evil" if path.startswith("blobs/") else data) for path, data in files]
    assert "is not the file that the store needs" in refused(made(swapped), tmp_path).what
    other = [(path, b"{}" if path == "store.json" else data) for path, data in files]
    assert "store.json is damaged" in refused(made(other), tmp_path).what
    copy = [(path, data + b" " if path == "store.json.bak" else data) for path, data in files]
    assert "store.json.bak is not the file" in refused(made(copy), tmp_path).what


LISTS = {
    "twice": [{"path": "a", "bytes": 0, "sha256": "0" * 64}] * 2,
    "a negative length": [{"path": "a", "bytes": -1, "sha256": "0" * 64}],
    "no number": [{"path": "a", "bytes": True, "sha256": "0" * 64}],
    "no hash": [{"path": "a", "bytes": 0, "sha256": "x"}],
    "another key": [{"path": "a", "bytes": 0, "sha256": "0" * 64, "link": "/etc"}],
    "not a list": {},
    "too many": [{}] * 300_001,
}


@pytest.mark.parametrize("members", LISTS.values(), ids=LISTS)
def test_promise_5_a_hostile_list_is_refused(tmp_path, members):
    refused(made([], content={"kind": "backup", "members": members}), tmp_path)


def test_promise_5_sizes_are_bounded_before_anything_is_read(tmp_path):
    huge = backup_file._header(LIST, 1 << 40)
    assert "allowed" in refused(huge, tmp_path).what
    listed = [
        {"path": p, "bytes": 1 << 50, "sha256": "0" * 64} for p in ("store.json", "store.json.bak", "catalogue.json")
    ]
    assert "store.json has" in refused(made([], content={"kind": "backup", "members": listed}), tmp_path).what


def test_a_backup_that_is_larger_than_the_disk_is_refused_before_it_is_read(whole, tmp_path, monkeypatch):
    from cnsctl.app import restore as of_restore

    monkeypatch.setattr(of_restore, "free_bytes", lambda _: 100)
    with pytest.raises(DiskError, match="not enough space"):
        result_of(restore(whole, tmp_path / "r"))
    assert names_in(tmp_path) == []


def test_promise_7_a_backup_of_a_newer_format_is_refused_by_name(whole, tmp_path, monkeypatch):
    files = contents(whole)
    with monkeypatch.context() as patch:
        patch.setattr(backup_file, "FORMAT", 2)
        content = made(files)
    err = refused(content, tmp_path)
    assert isinstance(err, FormatTooNewError)
    assert "has format 2" in err.what


def test_another_file_is_not_a_backup(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("x"))
    for content in (b"", b"PK\3\4" * 500, out.getvalue()):
        assert isinstance(refused(content, tmp_path), UnknownFormatError)


# faults

FAULTS = [(errno.EIO, False), (errno.ENOSPC, True), (Killed, False)]


@pytest.mark.parametrize(("error", "forever"), FAULTS)
def test_promise_1_a_backup_is_whole_or_absent_after_any_fault(store, whole, tmp_path, monkeypatch, error, forever):
    folder = tmp_path / "out"
    folder.mkdir()
    for old in (None, b"old"):
        for n in range(1, 200):
            file = folder / "b.tar"
            if old is not None:
                file.write_bytes(old)
            with monkeypatch.context() as patch:
                fault = Fault(patch, n, error, calls=(*CALLS, *LOCKS), forever=forever)
                try:
                    result_of(backup(store, file, force=True))
                    done = True
                except (CnsctlError, Killed):
                    done = False
            found = file.read_bytes() if file.exists() else None
            assert found in (old, whole.read_bytes())
            assert not done or found == whole.read_bytes()
            assert error is Killed or forever or names_in(folder) in ([], ["b.tar"])
            for path in folder.iterdir():
                path.unlink()
            if not fault.fired:
                break
        else:
            pytest.fail("the fault fired every time")
        assert n > 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inside", "error", "forever"),
    [(False, errno.EIO, False), (False, Killed, False), (True, errno.ENOSPC, True), (True, Killed, False)],
)
def test_promise_1_a_store_is_restored_whole_or_not_at_all_after_any_fault(
    whole, tmp_path, monkeypatch, inside, error, forever
):
    """And the same command works afterwards, and leaves nothing of the one that was killed."""
    path = tmp_path / "r"
    for n in range(1, 600):
        if inside:
            path.mkdir(exist_ok=True)
        with monkeypatch.context() as patch:
            fault = Fault(patch, n, error, calls=(*CALLS, *LOCKS), forever=forever)
            try:
                result_of(restore(whole, path))
                done = True
            except (CnsctlError, Killed):
                done = False
        try:
            found = [record["name"] for record in Store.open(path).concepts()]
        except CnsctlError:
            found = None
        assert found in (None, ["dog", "cat"])
        assert not done or found is not None
        if found is None and n % 4 == 0:
            result_of(restore(whole, path))
            assert assert_sound(path) == ["dog", "cat"]
            assert not list(tmp_path.rglob(".tmp-*"))
        for entry in tmp_path.iterdir():
            shutil.rmtree(entry)
        if not fault.fired:
            break
    else:
        pytest.fail("the fault fired every time")
    assert n > 50


# base models outside the store


def stored_outside(tmp_path, kind):
    """A store whose base model is a folder, or a single file, outside; with its configuration inside."""
    base = tmp_path / "base"
    files = {"unet/config.json": b"{}", "unet/w.safetensors": b"weights"}
    for name, content in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(content)
    listed = {name: canonical.sha256(content) for name, content in files.items()}
    place, checkpoint = base, None
    if kind == "file":
        place, checkpoint = tmp_path / "m.safetensors", canonical.sha256(b"single")
        place.write_bytes(b"single")
    record = base_record(kind=kind, path=str(place), files=listed, checkpoint=checkpoint)
    made_of = base if kind == "file" else None
    store = Store.create(
        tmp_path / "s", base=record, mode=Mode.PROMPT, created="2026-11-24T10:00:00Z", base_files=made_of
    )
    add(store, "dog")
    return store, place


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_base_model_outside_is_in_the_backup_only_if_asked(tmp_path, kind):
    store, place = stored_outside(tmp_path, kind)
    by_place = result_of(backup(store, tmp_path / "a.tar"))
    assert (by_place.base_inside, by_place.base_path) == (False, str(place))
    assert restored(tmp_path / "a.tar", tmp_path / "a").base == store.base
    with_base = result_of(backup(store, tmp_path / "b.tar", with_base=True))
    assert (with_base.base_inside, with_base.base_path) == (True, None)
    new = restored(tmp_path / "b.tar", tmp_path / "b")
    assert (new.base.path, new.base.checkpoint, new.base.fingerprint) == (None, None, store.base.fingerprint)
    held = files_of(new.base_folder)
    assert held["unet/w.safetensors"] == b"weights"
    assert held.get("checkpoint.safetensors") == (b"single" if kind == "file" else None)
    assert {name: canonical.sha256(content) for name, content in held.items()} == dict(new.base.files)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_base_model_that_has_changed_or_is_gone_is_refused(tmp_path, kind):
    store, place = stored_outside(tmp_path, kind)
    changed = place if kind == "file" else place / "unet" / "w.safetensors"
    changed.write_bytes(b"x" * changed.stat().st_size)
    with pytest.raises(CnsctlError, match="is not the one that was recorded") as caught:
        result_of(backup(store, tmp_path / "b.tar", with_base=True))
    assert str(changed) in caught.value.what
    changed.unlink()
    with pytest.raises(CnsctlError, match="is missing"):
        result_of(backup(store, tmp_path / "b.tar", with_base=True))


def test_restore_names_a_base_model_that_is_not_where_it_was(tmp_path):
    store, place = stored_outside(tmp_path, "file")
    result_of(backup(store, tmp_path / "b.tar"))
    place.unlink()
    events = list(restore(tmp_path / "b.tar", tmp_path / "r"))
    assert [str(place) in event.text for event in events if isinstance(event, Note)] == [True]
