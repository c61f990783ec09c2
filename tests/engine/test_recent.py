"""Rules of the cache of recent values."""

from __future__ import annotations

import gc
import weakref

from cnsctl.engine.recent import Recent


class Thing:
    pass


def test_of_ten_thousand_values_the_last_few_are_kept():
    recent: Recent[Thing] = Recent(16)
    made = [weakref.ref(recent.get(i, Thing)) for i in range(10_000)]
    gc.collect()
    assert [i for i, ref in enumerate(made) if ref() is not None] == list(range(9_984, 10_000))


def test_a_value_in_use_stays_and_is_made_once():
    recent: Recent[Thing] = Recent(2)
    always = recent.get("negative", Thing)
    for i in range(10):
        recent.get(i, Thing)
        assert recent.get("negative", Thing) is always


def test_a_value_that_could_not_be_made_is_not_kept():
    recent: Recent[float] = Recent(2)
    for _ in range(2):
        try:
            recent.get("x", lambda: 1 / 0)
        except ZeroDivisionError:
            continue
        raise AssertionError
    assert recent.get("x", lambda: 1.0) == 1.0
