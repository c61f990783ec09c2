"""Rules of blobs."""

import hashlib
import os

import pytest
from store_samples import names_in

from cnsctl.errors import CapacityError, StoreDamagedError
from cnsctl.store import blobs


def test_a_blob_is_named_by_the_hash_of_its_content(tmp_path):
    sha = blobs.put(tmp_path, b"content")
    assert sha == hashlib.sha256(b"content").hexdigest()
    assert blobs.get(tmp_path, sha) == b"content"
    assert names_in(tmp_path) == [sha]


def test_an_existing_blob_is_not_written_again(tmp_path):
    sha = blobs.put(tmp_path, b"content")
    before = (tmp_path / sha).stat()
    assert blobs.put(tmp_path, b"content") == sha
    after = (tmp_path / sha).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_an_existing_blob_is_made_durable(tmp_path, monkeypatch):
    """Its writer may have been killed before it synced the folder."""
    blobs.put(tmp_path, b"content")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    blobs.put(tmp_path, b"content")
    assert synced == [tmp_path.stat().st_ino]


@pytest.mark.parametrize("damage", [b"", b"Content", b"content and more"])
def test_a_damaged_blob_is_refused_by_reading_and_repaired_by_writing(tmp_path, damage):
    sha = blobs.put(tmp_path, b"content")
    (tmp_path / sha).write_bytes(damage)
    with pytest.raises(StoreDamagedError, match=sha) as caught:
        blobs.get(tmp_path, sha)
    assert "backup" in caught.value.hint
    blobs.put(tmp_path, b"content")
    assert blobs.get(tmp_path, sha) == b"content"


def test_a_missing_blob_is_reported_with_its_name(tmp_path):
    sha = "0" * 64
    with pytest.raises(StoreDamagedError, match=f"{sha} is missing"):
        blobs.get(tmp_path, sha)


@pytest.mark.parametrize("sha", ["", "..", "../" + "0" * 61, "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n"])
def test_only_a_hash_is_a_name_of_a_blob(tmp_path, sha):
    with pytest.raises(StoreDamagedError, match="not a name of a blob"):
        blobs.get(tmp_path, sha)


def test_a_blob_has_a_largest_size_in_writing_and_reading(tmp_path, monkeypatch):
    sha = blobs.put(tmp_path, b"12345")
    monkeypatch.setattr(blobs, "MAX_BYTES", 4)
    with pytest.raises(CapacityError, match="5 bytes"):
        blobs.put(tmp_path, b"54321")
    with pytest.raises(StoreDamagedError, match="5 bytes"):
        blobs.get(tmp_path, sha)
