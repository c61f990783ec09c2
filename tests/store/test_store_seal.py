"""Rules of `store.json`: sealed, with a copy, so that no changed bit is accepted and none makes a store unreadable."""

import errno
import os

import pytest
from faults import Fault, Killed
from store_samples import add, assert_sound, base_record, manifest_of, new_store, write_manifest

from cnsctl.errors import CapacityError, CnsctlError, FormatTooNewError, StoreDamagedError
from cnsctl.store import MetricModel, Store, catalogue, manifest
from cnsctl.store.seal import frame_of, sealed


@pytest.fixture
def store(tmp_path):
    made = new_store(tmp_path / "s")
    add(made, "dog")
    return made


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", [manifest.FILE, manifest.COPY])
def test_any_flipped_bit_of_one_file_is_noticed_and_the_other_file_is_used(store, name):
    path, intact = store.path / name, (store.path / name).read_bytes()
    for bit in range(0, 8 * len(intact), 7):  # every byte, and each bit of a byte somewhere
        flip(path, bit)
        with pytest.raises(CnsctlError):
            manifest.from_bytes(path.read_bytes(), name)
        opened = Store.open(store.path)
        assert (opened.base, opened.mode) == (store.base, store.mode)
        assert bool(opened.damage) == (name == manifest.FILE)
        path.write_bytes(intact)


def test_a_missing_file_is_replaced_by_its_copy_with_a_warning(store):
    (store.path / "store.json").unlink()
    opened = Store.open(store.path)
    assert opened.base == store.base
    assert "store.json is missing; its copy store.json.bak is used" in opened.damage[0]
    assert assert_sound(store.path) == ["dog"]


@pytest.mark.parametrize("field", ["mode", "family", "denoiser_weights", "fingerprint"])
def test_a_changed_fact_is_never_accepted(store, field):
    """Also if the file is valid JSON of the right form."""
    for name in (manifest.FILE, manifest.COPY):
        path = store.path / name
        content = path.read_bytes()
        old, new = {
            "mode": (b'"mode":"prompt"', b'"mode":"merged"'),
            "family": (b'"family":"sd1"', b'"family":"sdxl"'),
            "denoiser_weights": (b'"denoiser_weights":4', b'"denoiser_weights":5'),
            "fingerprint": (b'"fingerprint":"f', b'"fingerprint":"e'),
        }[field]
        assert old in content
        path.write_bytes(content.replace(old, new))
    with pytest.raises(StoreDamagedError, match="SHA-256"):
        Store.open(store.path)


def test_the_next_change_writes_an_old_or_missing_copy_again(store):
    copy = store.path / "store.json.bak"
    copy.unlink()
    add(store, "cat", 1)
    assert copy.read_bytes() == (store.path / "store.json").read_bytes()


def test_a_change_never_replaces_an_intact_copy_by_a_damaged_file(store):
    flip(store.path / "store.json", 100)
    copy = (store.path / "store.json.bak").read_bytes()
    add(Store.open(store.path), "cat", 1)
    assert (store.path / "store.json.bak").read_bytes() == copy
    assert assert_sound(store.path) == ["dog", "cat"]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, Killed])
def test_after_any_fault_places_are_the_old_or_the_new_ones(store, monkeypatch, tmp_path, error):
    import shutil

    clip = MetricModel(name="clip", path="/models/clip", fingerprint="a" * 64)
    seen = set()
    for n in range(1, 100):
        path = shutil.copytree(store.path, tmp_path / str(n))
        opened, saved = Store.open(path), False
        with monkeypatch.context() as patch:
            fault = Fault(patch, n, error)
            try:
                opened.set_places(clip=clip)
                saved = True
            except (CnsctlError, Killed):
                pass
        found = Store.open(path)
        assert found.damage == []
        assert found.clip in (None, clip)
        assert found.clip == clip or not saved, "what was reported as saved is kept"
        seen.add(found.clip)
        if not fault.fired:
            assert opened.warnings == []
            break
    assert seen == {None, clip}


def test_a_flipped_bit_of_the_format_number_is_damage_and_not_a_newer_version(store):
    """A newer version seals its number, too."""
    for file, reader in ((store.path / "catalogue.json", store.snapshot), (store.path / "store.json", None)):
        content = file.read_bytes()
        at = content.index(b'"format":') + len(b'"format":')
        file.write_bytes(content[:at] + b"7" + content[at + 1 :])
        with pytest.raises(StoreDamagedError, match="SHA-256"):
            reader() if reader else manifest.from_bytes(file.read_bytes(), "store.json")
        file.write_bytes(content)
    with pytest.raises(FormatTooNewError, match="has format 9"):
        frame_of(sealed(b"{}", 9), 3, "x")


def test_a_catalogue_that_its_reader_would_refuse_is_never_written(store, monkeypatch):
    before = (store.path / "catalogue.json").read_bytes()
    monkeypatch.setattr(catalogue, "MAX_BYTES", len(before) + 100)
    with pytest.raises(CapacityError, match="catalogue would be too large"):
        add(store, "cat", 1)
    assert (store.path / "catalogue.json").read_bytes() == before
    assert assert_sound(store.path) == ["dog"]


def test_a_manifest_that_its_reader_would_refuse_is_never_written(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_BYTES", 300)
    with pytest.raises(CapacityError, match="too large"):
        new_store(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_loop_of_links_is_reported(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for path in (tmp_path / "a", tmp_path / "a" / "s"):
        with pytest.raises(CnsctlError):
            Store.open(path)
        with pytest.raises(CnsctlError):
            new_store(path)


def test_a_store_with_a_site_missing_is_refused_in_words(store):
    payload = manifest_of(store.path)
    del payload["base"]["sites"]["mid.to_k"]
    write_manifest(store.path, payload)
    opened = Store.open(store.path)
    with pytest.raises(StoreDamagedError, match="another base model"):
        opened.delta(opened.concept("dog"))
    with opened.transaction("rm") as tx:
        tx.remove("dog")
    assert opened.concepts() == ()


def test_the_lock_of_a_store_is_not_created_by_reading(tmp_path):
    new_store(tmp_path / "s")
    (tmp_path / "s" / "lock").unlink()
    Store.open(tmp_path / "s").concepts()
    assert not os.path.lexists(tmp_path / "s" / "lock")
    assert base_record().sizes
