"""Rules of training state, of reserving a name, and of the cache."""

import pytest
from store_samples import names_in, new_store

from cnsctl.errors import InvalidNameError, StoreLockedError
from cnsctl.store import Store


@pytest.fixture
def store(tmp_path):
    return new_store(tmp_path / "s")


def test_a_reserved_name_is_refused_to_others_and_free_afterwards(store):
    with store.work.reserve("dog") as work:
        assert work.is_dir()
        with pytest.raises(StoreLockedError, match="add dog"), Store.open(store.path).work.reserve("dog"):
            pass
        with store.work.reserve("cat"):
            pass
    with Store.open(store.path).work.reserve("dog"):
        pass


def test_training_state_outlives_its_reservation_and_an_empty_folder_does_not(store):
    with store.work.reserve("dog") as work:
        (work / "state").write_bytes(b"half")
    with store.work.reserve("cat") as empty:
        pass
    assert not empty.exists()
    with store.work.reserve("dog") as work:
        assert (work / "state").read_bytes() == b"half"


def test_names_with_training_state_are_unfinished(store):
    assert store.work.unfinished() == []
    for name in ("dog", "cat"):
        with store.work.reserve(name) as work:
            (work / "state").write_bytes(b"half")
    with store.work.reserve("owl"):
        assert store.work.unfinished() == ["cat", "dog"]
    store.work.discard("cat")
    (store.path / "work" / "gone").symlink_to(store.path / "nowhere")  # as if a run ended meanwhile
    with store.work.training():
        assert store.work.unfinished() == ["dog"]


def test_a_concept_may_have_the_name_of_any_file_of_the_store(store):
    with store.work.training():
        for name in ("lock", "work", "state", "names"):
            with store.work.reserve(name) as work:
                assert work.is_dir()


def test_temporary_files_of_a_killed_writer_are_removed(store):
    with store.work.reserve("dog") as work:
        (work / ".tmp-state-1-aa").write_bytes(b"half of a half")
        (work / "state").write_bytes(b"half")
    with store.work.reserve("dog") as work:
        assert names_in(work) == ["lock", "state"]


def test_discarded_training_state_is_deleted_inside_and_outside_a_reservation(store):
    store.work.discard("dog")
    with store.work.reserve("dog") as work:
        (work / "state").write_bytes(b"half")
        (work / "more").mkdir()
        store.work.discard("dog")
        assert names_in(work) == ["lock"], "still reserved"
        (work / "state").write_bytes(b"half")
    store.work.discard("dog")
    assert not work.exists()


def test_training_state_that_another_process_uses_is_not_deleted(store):
    with store.work.reserve("dog") as work:
        (work / "state").write_bytes(b"half")
        Store.open(store.path).work.discard("dog")
        assert (work / "state").exists()


@pytest.mark.parametrize("name", ["..", "a/b", "Dog", ""])
def test_only_a_concept_s_name_can_be_reserved(store, name):
    with pytest.raises(InvalidNameError), store.work.reserve(name):
        pass
    with pytest.raises(InvalidNameError):
        store.work.discard(name)


def test_the_cache_returns_what_was_cached_or_none(store):
    assert store.cached("general-1") is None
    assert not store.cache_folder.exists()
    store.cache("general-1", b"mask")
    assert store.cached("general-1") == b"mask"


def test_a_cache_that_cannot_be_written_is_ignored(store):
    store.cache_folder.write_bytes(b"a file in the way")
    store.cache("general-1", b"mask")
    assert store.cached("general-1") is None


@pytest.mark.parametrize("key", ["../x", "", ".x", "a/b"])
def test_a_cache_key_stays_in_the_cache(store, key):
    with pytest.raises(ValueError, match="not a key"):
        store.cache(key, b"")
