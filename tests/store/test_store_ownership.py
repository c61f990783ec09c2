"""Rules of counting the owners of neurons."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnsctl.store.ownership import added, by_site, count, n_bytes, pack, removed, spare_bits, union

SIZES = {"b": 7, "a": 40, "c": 9}
SETS = st.fixed_dictionaries({site: st.sets(st.integers(0, size - 1)) for site, size in SIZES.items()})


def owned(sets):
    return {site: np.array(sorted(flat), np.int64) for site, flat in sets.items()}


def bits_at(planes, site, flat):
    """The number of owners of one weight, read bit by bit."""
    return sum(int(np.unpackbits(by_site(p, SIZES)[site])[flat]) << k for k, p in enumerate(planes))


@given(st.data())
@settings(deadline=None)
def test_planes_are_the_numbers_of_owners_after_any_changes(data):
    """Against a dictionary that counts; after each change."""
    planes, held, model = (), [], Counter()
    for _ in range(data.draw(st.integers(0, 12))):
        if held and data.draw(st.booleans()):
            sets = held.pop(data.draw(st.integers(0, len(held) - 1)))
            planes = removed(planes, pack(owned(sets), SIZES))
            model.subtract((site, i) for site in sets for i in sets[site])
        else:
            held.append(data.draw(SETS))
            planes = added(planes, pack(owned(held[-1]), SIZES))
            model.update((site, i) for site in held[-1] for i in held[-1][site])
        assert all(bits_at(planes, site, i) == model[site, i] for site in SIZES for i in range(SIZES[site]))
        assert count(union(planes, SIZES)) == sum(n > 0 for n in model.values())
        assert len(planes) == max(model.values(), default=0).bit_length(), "as few planes as possible"
        assert all(not (plane & spare_bits(SIZES)).any() for plane in planes)


@given(SETS, SETS)
@settings(deadline=None)
def test_shared_neurons_are_those_that_both_masks_mark(a, b):
    expected = sum(len(a[site] & b[site]) for site in SIZES)
    assert count(pack(owned(a), SIZES) & pack(owned(b), SIZES)) == expected


@given(SETS)
@settings(deadline=None)
def test_each_site_has_bytes_of_its_own(sets):
    bits = pack(owned(sets), SIZES)
    assert bits.shape == (n_bytes(SIZES),) == (1 + 5 + 2,)
    for site, part in by_site(bits, SIZES).items():
        assert set(np.flatnonzero(np.unpackbits(part))) == sets[site]


def test_a_neuron_without_an_owner_cannot_be_released():
    planes = added((), pack({"a": np.array([1])}, SIZES))
    with pytest.raises(ValueError, match="1 neurons"):
        removed(planes, pack({"a": np.array([1, 2])}, SIZES))


def test_no_argument_is_changed():
    mask = pack({"a": np.array([1, 2])}, SIZES)
    planes = added(added((), mask), mask)
    before = [plane.copy() for plane in (*planes, mask)]
    added(planes, mask), removed(planes, mask), union(planes, SIZES)
    assert all(np.array_equal(a, b) for a, b in zip(before, (*planes, mask), strict=True))


def test_an_absent_site_has_no_owners_and_an_unknown_site_is_refused():
    assert count(pack({}, SIZES)) == 0
    with pytest.raises(ValueError, match="'x' is not a site"):
        pack({"x": np.array([1])}, SIZES)
    for flat in (40, -1):
        with pytest.raises(ValueError, match="of a is not below 40"):
            pack({"a": np.array([flat])}, SIZES)
