"""Rules of counting who owns what."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cnsctl.store.ownership import overlap, take_census

SIZES = {"a": 40, "b": 7}


def owned(sets):
    return {site: np.array(sorted(flat), np.int64) for site, flat in sets.items()}


SETS = st.fixed_dictionaries({site: st.sets(st.integers(0, size - 1)) for site, size in SIZES.items()})


@given(SETS, SETS)
@settings(deadline=None)
def test_overlap_counts_what_both_own_and_does_not_care_about_order(a, b):
    expected = sum(len(a[site] & b[site]) for site in SIZES)
    assert overlap(owned(a), owned(b)) == overlap(owned(b), owned(a)) == expected


@given(st.lists(SETS, max_size=5), st.sets(st.integers(0, 4)))
@settings(deadline=None)
def test_a_census_agrees_with_counting_sets(everyone, new):
    keys = [str(i) for i in range(len(everyone))]
    new_keys = {str(i) for i in new if i < len(everyone)}
    masks = dict(zip(keys, map(owned, everyone), strict=True))
    census = take_census(iter(masks.items()), {k: masks[k] for k in new_keys}, SIZES)
    assert census.owned == sum(len(set().union(*(one[site] for one in everyone))) for site in SIZES)
    assert census.overlaps == {(a, b): overlap(masks[a], masks[b]) for a in new_keys for b in keys if a != b}


def test_a_site_that_is_absent_is_owned_by_nobody():
    assert overlap({"a": np.array([1])}, {"b": np.array([1])}) == 0
    assert take_census([("x", {"a": np.array([1])})], {"y": {"b": np.array([1])}}, SIZES).overlaps == {("y", "x"): 0}
