"""Rules of writing and reading files."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from store_samples import names_in

from cnsctl.errors import DiskError, StoreDamagedError
from cnsctl.store.files import free_bytes, make_folder, read_bounded, remove_unfinished, write_atomic, write_once


def test_a_written_file_contains_the_data_and_no_other_file_is_left(tmp_path):
    path = tmp_path / "f"
    write_atomic(path, b"old")
    write_atomic(path, b"new" * 100_000)
    assert path.read_bytes() == b"new" * 100_000
    assert names_in(tmp_path) == ["f"]


def test_the_permissions_are_those_requested_without_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "f", b"x", mode=0o666)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_the_file_is_synced_before_it_gets_its_name_and_the_folder_after(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(fd):
        done.append("fsync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync file")
        fsync(fd)

    def note_replace(a, b):
        done.append("replace")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_atomic(tmp_path / "f", b"x")
    assert done == ["fsync file", "replace", "fsync folder"]


def test_partial_writes_of_the_system_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    write_atomic(tmp_path / "f", bytes(range(100)))
    assert (tmp_path / "f").read_bytes() == bytes(range(100))


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failing_call_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call, code):
    path = tmp_path / "f"
    write_atomic(path, b"old")

    def fail(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(DiskError, match=str(path)) as caught:
            write_atomic(path, b"new")
    assert caught.value.hint
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["f"]


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission"), (errno.EIO, "failing")],
)
def test_errors_of_the_disk_have_a_message(tmp_path, monkeypatch, code, words):
    def fail(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(DiskError, match=words):
        write_atomic(tmp_path / "f", b"new")


@pytest.mark.parametrize(("code", "tolerated"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_only_a_file_system_without_folder_syncs_may_fail_one(tmp_path, monkeypatch, code, tolerated):
    fsync = os.fsync

    def fail(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)
    if tolerated:
        write_atomic(tmp_path / "f", b"new")
    else:
        with pytest.raises(DiskError):
            write_atomic(tmp_path / "f", b"new")


def test_reading_stops_at_the_limit(tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    assert read_bounded(tmp_path / "f", 5) == b"12345"
    with pytest.raises(StoreDamagedError, match=r"5 bytes \(at most 4\)"):
        read_bounded(tmp_path / "f", 4)


def test_a_fifo_or_a_folder_in_place_of_a_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(StoreDamagedError, match="not a regular file"):
            read_bounded(tmp_path / name, 5)


def test_an_absent_file_and_a_failing_disk_are_different_errors(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "no" / "f", 5)
    (tmp_path / "f").write_bytes(b"x")

    def fail(*_args):
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(DiskError, match="read"):
        read_bounded(tmp_path / "f", 5)


def test_folders_are_made_with_their_parents_and_each_parent_is_synced(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def note(fd):
        synced.append(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino]


@pytest.mark.parametrize("was_there", [False, True])
def test_a_folder_that_another_process_removes_at_once_is_made_again(tmp_path, monkeypatch, was_there):
    """Commands started together: one removes what it takes for the remains of a killed one."""
    calls, mkdir = [], os.mkdir

    def made_and_removed(path):
        calls.append(path)
        mkdir(path)
        if len(calls) == 1:
            path.rmdir()
            if was_there:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))

    monkeypatch.setattr(os, "mkdir", made_and_removed)
    make_folder(tmp_path / "a")
    assert (tmp_path / "a").is_dir()
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_folder_with_the_name_of_something_else_is_an_error(tmp_path, kind):
    (tmp_path / "a").write_bytes(b"") if kind == "file" else (tmp_path / "a").symlink_to(tmp_path / "absent")
    with pytest.raises(DiskError, match="Not a directory"):
        make_folder(tmp_path / "a")


def test_a_file_in_place_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(DiskError, match="make the folder"):
        make_folder(tmp_path / "a" / "b")


def test_only_temporary_files_are_removed(tmp_path):
    (tmp_path / ".tmp-f-1-ab").write_bytes(b"half")
    (tmp_path / "f").write_bytes(b"whole")
    remove_unfinished(tmp_path)
    remove_unfinished(tmp_path / "absent")
    assert names_in(tmp_path) == ["f"]


def test_free_bytes_are_those_of_the_disk_of_a_future_path(tmp_path):
    assert free_bytes(tmp_path / "not" / "yet") > 0


def test_an_existing_file_is_not_overwritten(tmp_path):
    write_once(tmp_path / "f", b"first")
    with pytest.raises(FileExistsError):
        write_once(tmp_path / "f", b"second")
    assert (tmp_path / "f").read_bytes() == b"first"
    assert names_in(tmp_path) == ["f"]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_writers_of_one_name_one_succeeds(tmp_path, monkeypatch, links):
    if not links:  # as on FAT

        def link(*_args):
            raise OSError(errno.EPERM, "x")

        monkeypatch.setattr(os, "link", link)

    def write(number):
        try:
            write_once(tmp_path / "f", bytes([number]) * 100_000)
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        (won,) = [number for number in pool.map(write, range(32)) if number is not None]
    assert (tmp_path / "f").read_bytes() == bytes([won]) * 100_000
    assert names_in(tmp_path) == ["f"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "link"])
def test_a_failing_call_leaves_a_name_free(tmp_path, monkeypatch, call):
    def fail(*_args, **_kwargs):
        raise OSError(errno.EIO, "x")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(DiskError):
            write_once(tmp_path / "f", b"x")
    assert names_in(tmp_path) == []


def test_without_links_a_failing_replace_leaves_the_name_free(tmp_path, monkeypatch):
    def fail(code):
        def call(*_args):
            raise OSError(code, "x")

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", fail(errno.ENOTSUP))
        patch.setattr(os, "replace", fail(errno.EIO))
        with pytest.raises(DiskError):
            write_once(tmp_path / "f", b"x")
    assert names_in(tmp_path) == []
