"""Rules of canonical JSON."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnsctl.formats import canonical

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES)
@settings(deadline=None)
def test_a_dumped_value_is_parsed_and_dumped_to_the_same_bytes(value):
    data = canonical.dump(value)
    assert canonical.parse(data) == value
    assert canonical.dump(canonical.parse(data)) == data
    assert data.isascii()


def test_the_order_of_keys_does_not_change_the_bytes():
    assert canonical.dump({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"a":{"c":3,"d":2},"b":1}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_nan_and_infinity_are_not_written(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical.dump(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"NaN",
        b"[Infinity]",
        b'{"a":-Infinity}',
        b'{"a":1,"a":1}',
        b'[{"a":{"b":1,"b":2}}]',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"9" * 10_000,
        "{}".encode("utf-16"),
    ],
)
def test_data_that_is_not_strict_json_is_refused_with_one_exception(data):
    with pytest.raises(ValueError):
        canonical.parse(data)


@pytest.mark.parametrize("data", [b"[]", b"7", b"null", b'"{}"'])
def test_another_kind_of_value_is_not_an_object(data):
    with pytest.raises(ValueError, match="not a JSON object"):
        canonical.parse_object(data)
