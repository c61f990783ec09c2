"""Rules of the ownership index as a file: it follows every change, and can be counted again at any time."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_samples import N_WEIGHTS, SITES, add, assert_sound, make_delta, names_in, new_store, stage

from cnsctl.errors import StoreDamagedError
from cnsctl.formats.own_file import pack, read_header
from cnsctl.store import Store, blobs, index

SIZES = {site: rows * columns for site, (rows, columns) in SITES.items()}


@pytest.fixture
def store(tmp_path):
    return new_store(tmp_path / "s")


def n_owned(store, **besides):
    owned = store.index.owned(store.snapshot(), **besides)
    return sum(int(np.unpackbits(bits).sum()) for bits in owned.values())


def at(folder, sizes=SIZES):
    return index.Index(folder=folder, blobs=folder, sizes=sizes)


@pytest.mark.parametrize("recent", [0, 2, 8])
@given(data=st.data())
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_index_is_what_counting_all_deltas_gives_after_any_history(tmp_path_factory, monkeypatch, recent, data):
    """Adds, replacements, renames and removals in any order, several in one block."""
    monkeypatch.setattr(index, "RECENT_KEPT", recent)
    store = new_store(tmp_path_factory.mktemp("index") / "s")
    for _ in range(data.draw(st.integers(1, 5))):
        with store.transaction("some") as tx:
            here = set(store.snapshot().names)
            for _ in range(data.draw(st.integers(1, 3))):
                name = data.draw(st.sampled_from(["dog", "cat", "ant"]))
                what = data.draw(st.sampled_from(["add", "rm", "mv"]))
                if what == "add":
                    stage(tx, name, make_delta(data.draw(st.integers(0, 3))), replace=True)
                    here.add(name)
                elif name in here and what == "rm":
                    tx.remove(name)
                    here.remove(name)
                elif name in here and "cow" not in here:
                    tx.rename(name, "cow")
                    here = here - {name} | {"cow"}
        assert set(assert_sound(store.path)) == here


def files(store):
    """Files of the index that the current catalogue refers to."""
    return index.files_of(store.snapshot().state)


def test_without_owned_neurons_the_index_has_no_files(store):
    assert files(store) == set()
    add(store, "dog")
    with store.transaction("rm") as tx:
        tx.remove("dog")
    assert (files(store), store.index.kept(store.snapshot().state)) == (set(), ())


def test_the_files_of_two_generations_are_kept(store):
    for seed in range(12):
        before = files(store)
        add(store, f"c{seed}", seed)
        assert set(names_in(store.path / "index")) == before | files(store)
        with store.transaction("mv") as tx:
            tx.rename(f"c{seed}", f"d{seed}")
        assert set(names_in(store.path / "index")) == before | files(store)


def test_the_masks_beside_the_planes_are_few(store):
    """Only every ninth addition writes more than its own mask and the union."""
    written, before = [], set()
    for seed in range(19):
        add(store, f"c{seed}", seed)
        state = store.snapshot().state
        assert len(state["recent"]) == (seed + 1) % 9 <= index.RECENT_KEPT
        written.append(len(files(store) - before))
        before = files(store)
    assert max(written) == 2
    assert_sound(store.path)


def test_an_addition_does_not_read_the_planes(store, opened):
    for seed in range(10):
        add(store, f"c{seed}", seed)
    state = store.snapshot().state
    opened.clear()
    add(store, "new", 10)
    assert state["owned"] in opened
    assert not {state["owners"], *state["recent"]} & set(opened)


def test_the_previous_catalogue_has_its_own_index(store):
    add(store, "dog", 0)
    add(store, "cat", 1)
    (store.path / "catalogue.json.bak").replace(store.path / "catalogue.json")
    assert assert_sound(store.path) == ["dog"]


def test_owned_neurons_are_read_from_the_index_without_the_deltas(store):
    for seed, name in enumerate(["dog", "cat", "ant"]):
        add(store, name, seed)
    deltas = {name: store.delta(store.concept(name)) for name in ("dog", "cat", "ant")}
    for name in ("dog", "ant"):
        (store.path / "blobs" / store.concept(name)["delta"]).unlink()
    for besides, others in (("cat", ("dog", "ant")), (None, ("dog", "cat", "ant")), ("absent", ("dog", "cat", "ant"))):
        owned = store.index.owned(store.snapshot(), besides=besides)
        for site, size in SIZES.items():
            marked = np.flatnonzero(np.unpackbits(owned[site], count=size))
            assert set(marked) == set().union(*(deltas[name].indices[site].tolist() for name in others))


def damage(store, how, kind="owned"):
    state = store.snapshot().state
    path = store.path / "index" / (state["recent"][0] if kind == "recent" else state[kind])
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    if how == "flipped":
        content[-1] ^= 1
    path.write_bytes(content[:-1] if how == "cut" else b"" if how == "empty" else content)


@pytest.mark.parametrize("kind", ["owned", "owners", "recent"])
@pytest.mark.parametrize("how", ["missing", "flipped", "cut", "empty"])
def test_a_damaged_index_is_counted_again_from_the_deltas(store, monkeypatch, kind, how):
    monkeypatch.setattr(index, "RECENT_KEPT", 2)
    names = [f"c{n}" for n in range(5)]
    for seed, name in enumerate(names):
        add(store, name, seed)
    expected = n_owned(store), n_owned(store, besides="c1")
    damage(store, how, kind)
    with pytest.raises(StoreDamagedError):
        store.index.kept(store.snapshot().state)
    assert (n_owned(store), n_owned(store, besides="c1")) == expected
    for n in range(5, 7):
        names.append(f"c{n}")
        add(store, f"c{n}", n)
    assert assert_sound(store.path) == names
    with store.transaction("rm") as tx:
        tx.remove("c1")
    add(store, "new", 9)
    damage(store, how, kind)
    with store.transaction("rm") as tx:
        tx.remove("c2")
    assert assert_sound(store.path) == ["c0", "c3", "c4", "c5", "c6", "new"]


def test_a_concept_that_cannot_be_read_is_not_counted_until_it_can_be(store):
    """After its file is restored, the next change counts it."""
    for seed, name in enumerate(["dog", "cat", "ant"]):
        add(store, name, seed)
    record = store.concept("dog")
    path = store.path / "blobs" / record["delta"]
    content = path.read_bytes()
    path.unlink()
    damage(store, "missing")
    add(store, "cow", 3)
    assert store.snapshot().state["uncounted"] == (record["id"],)
    without = {(s, int(i)) for n in (1, 2, 3) for s, flat in make_delta(n).indices.items() for i in flat}
    assert store.free().neurons == N_WEIGHTS - len(without)
    path.write_bytes(content)
    with store.transaction("rm") as tx:
        tx.remove("cat")
    assert assert_sound(store.path) == ["dog", "ant", "cow"]


def test_removing_a_concept_that_was_never_counted_changes_no_count(store):
    for seed, name in enumerate(["dog", "cat"]):
        add(store, name, seed)
    path = store.path / "blobs" / store.concept("dog")["delta"]
    content = path.read_bytes()
    path.unlink()
    damage(store, "missing")
    add(store, "ant", 2)
    path.write_bytes(content)
    with store.transaction("rm") as tx:
        tx.remove("dog")
    assert assert_sound(store.path) == ["cat", "ant"]


def test_a_delta_of_other_sites_is_not_counted(store):
    add(store, "dog")
    record = dict(store.concept("dog"))
    from cnsctl.formats import delta as delta_file

    record["delta"] = blobs.put(store.path / "blobs", delta_file.write(make_delta(0, sites={"other": (12, 16)})))
    with pytest.raises(StoreDamagedError, match="'dog' is of another base model"):
        store.index.mask_of(record)


N_BYTES = 24 + 24 + 14
META = {"format": 1, "kind": "owners", "sizes": SIZES}
PLANE = np.ones(N_BYTES, np.uint8) * 2
ODD = {"a": 7}
FORGED = {
    "format": lambda: pack(META | {"format": 2}, {"plane.0": PLANE}),
    "kind": lambda: pack(META | {"kind": "delta"}, {"plane.0": PLANE}),
    "sizes": lambda: pack(META | {"sizes": {**SIZES, "mid.to_k": 111}}, {"plane.0": PLANE}),
    "extra": lambda: pack(META | {"x": 1}, {"plane.0": PLANE}),
    "no plane": lambda: pack(META, {}),
    "first missing": lambda: pack(META, {"plane.1": PLANE}),
    "name": lambda: pack(META, {"plane.0": PLANE, "plane.x": PLANE}),
    "length": lambda: pack(META, {"plane.0": PLANE[1:]}),
    "shape": lambda: pack(META, {"plane.0": PLANE.reshape(2, -1)}),
    "dtype": lambda: pack(META, {"plane.0": PLANE.astype("<u2")}),
    "last is zero": lambda: pack(META, {"plane.0": PLANE, "plane.1": np.zeros(N_BYTES, np.uint8)}),
    "too many": lambda: pack(META, {f"plane.{k}": PLANE for k in range(33)}),
    "no header": lambda: b"",
    "more bytes": lambda: pack(META, {"plane.0": PLANE}) + b"x",
}


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED.keys())
def test_an_index_with_a_valid_name_and_wrong_content_is_refused(tmp_path, content):
    sha = blobs.put(tmp_path, content())
    with pytest.raises(StoreDamagedError, match="index is damaged"):
        at(tmp_path).read(sha)


def test_the_sample_of_an_index_is_valid(tmp_path):
    """Otherwise the forgeries above would prove nothing."""
    planes = at(tmp_path).read(blobs.put(tmp_path, pack(META, {"plane.0": PLANE})))
    assert np.array_equal(planes, [PLANE])
    assert at(tmp_path / "new").write(planes) == names_in(tmp_path)[0]


def test_a_bit_without_a_weight_is_refused(tmp_path):
    meta = META | {"sizes": ODD}
    right, wrong = (pack(meta, {"plane.0": np.array([bits], np.uint8)}) for bits in (0b10, 0b11))
    assert at(tmp_path, ODD).read(blobs.put(tmp_path, right))
    with pytest.raises(StoreDamagedError, match="without a weight"):
        at(tmp_path, ODD).read(blobs.put(tmp_path, wrong))


def test_an_index_is_small_and_contains_its_kind_and_format(store, monkeypatch):
    monkeypatch.setattr(index, "RECENT_KEPT", 0)
    for n in range(3):
        add(store, f"c{n}", 0)
    data = (store.path / "index" / store.snapshot().state["owners"]).read_bytes()
    header = read_header(data)
    assert header.meta == META
    assert sorted(header.entries) == ["plane.0", "plane.1"], "three owners at most: two bits"
    assert len(data) == header.body + 2 * N_BYTES


def test_an_inconsistent_index_is_refused(store):
    add(store, "dog", 0)
    add(store, "cat", 1)
    state = store.snapshot().state
    with pytest.raises(StoreDamagedError, match="inconsistent"):
        store.index.kept({**state, "owned": state["recent"][0]})


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that are opened from now on."""
    found, honest = [], os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: found.append(Path(path).name) or honest(path, *rest))
    return found


@pytest.mark.parametrize("change", ["add", "rm", "mv", "owned"])
def test_a_change_opens_no_other_concepts_file(store, opened, change):
    for seed, name in enumerate(["dog", "cat", "ant"]):
        add(store, name, seed)
    others = {store.concept(name)["delta"] for name in ("dog", "ant")}
    opened.clear()
    again = Store.open(store.path)
    if change == "owned":
        again.index.owned(again.snapshot())
    with again.transaction(change) as tx:
        if change == "add":
            stage(tx, "cow", make_delta(4))
        elif change == "rm":
            tx.remove("cat")
        elif change == "mv":
            tx.rename("cat", "cow")
    assert "catalogue.json" in opened
    assert not others & set(opened)


def test_the_catalogue_has_one_line_per_concept_whose_length_does_not_grow(store):
    lengths = []
    for n in range(6):
        add(store, f"c{n}", n)
        tables = json.loads((store.path / "catalogue.json").read_bytes())["payload"]
        lengths.append(max(len(json.dumps(document)) for table in tables.values() for document in table.values()))
    assert max(lengths) - min(lengths) < 8
