"""Rules of delta files."""

import dataclasses
import json

import numpy as np
import pytest
from frozen_formats import DELTA, DELTA_FILE
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load
from store_samples import SITES, make_delta, same_delta

from cnsctl.concept import Delta, Mode
from cnsctl.errors import FormatTooNewError, NotSavedError, StoreDamagedError
from cnsctl.formats.delta import read, read_indices, write
from cnsctl.formats.gaps import decode_gaps, encode_gaps


@st.composite
def indices(draw):
    size = draw(st.sampled_from([1, 300, 70_000, 1 << 20]))
    flat = draw(st.lists(st.integers(0, size - 1), unique=True, max_size=60))
    return size, np.array(sorted(flat), np.int64)


@given(indices())
@settings(deadline=None)
def test_decoded_gaps_are_the_indices_that_were_encoded(sample):
    size, flat = sample
    decoded = decode_gaps(encode_gaps(flat), size)
    assert decoded.dtype == np.int64
    assert np.array_equal(decoded, flat)


@pytest.mark.parametrize("gap", [1, 254, 255, 256, 257, 510, 511, 512, 65535, 65536, 65537, 131_070, 131_071])
@pytest.mark.parametrize("dense", [0, 2000])
def test_gaps_around_the_largest_code_are_decoded(gap, dense):
    flat = np.concatenate([np.arange(dense), [dense - 1 + gap, dense - 1 + 2 * gap]])
    assert np.array_equal(decode_gaps(encode_gaps(flat), 1 << 20), flat)


def test_the_smaller_width_is_chosen_for_each_site():
    assert encode_gaps(np.arange(1000)).dtype == np.uint8
    assert encode_gaps(np.arange(0, 100_000, 300)).dtype == np.uint8, "two bytes either way: the narrow dtype"
    assert encode_gaps(np.arange(0, 100_000, 900)).dtype == np.uint16


@pytest.mark.parametrize("codes", [[255], [0, 255], [3, 255, 255]])
def test_a_gap_without_an_end_is_refused(codes):
    with pytest.raises(ValueError, match="does not end"):
        decode_gaps(np.array(codes, np.uint8), 10**6)


def test_an_index_at_the_size_is_refused_and_one_below_accepted():
    assert decode_gaps(np.array([9], np.uint8), 10).tolist() == [9]
    with pytest.raises(ValueError, match="past the last weight"):
        decode_gaps(np.array([10], np.uint8), 10)


@st.composite
def halves(draw, n):
    """Any finite bits, negative zeros and subnormal numbers too."""
    found = np.frombuffer(draw(st.binary(min_size=2 * n, max_size=2 * n)), np.float16)
    return np.where(np.isfinite(found), found, np.float16(1))


@st.composite
def deltas(draw):
    shapes = draw(
        st.dictionaries(st.sampled_from(["vectors", "mid.to_k", "mid.to_v", "up-1_K"]), SHAPE, min_size=1, max_size=3)
    )
    flat = {s: draw(st.sets(st.integers(0, r * c - 1), max_size=20)) for s, (r, c) in shapes.items()}
    vectors = draw(st.integers(1, 3))
    return Delta(
        shapes=shapes,
        indices={s: np.array(sorted(i), np.int64) for s, i in flat.items()},
        values={s: draw(halves(len(i))) for s, i in flat.items()},
        vectors={
            e: draw(halves(4 * vectors)).reshape(vectors, 4)
            for e in sorted(draw(st.sets(st.sampled_from(["clip", "open_clip", "t5"]), min_size=1)))
        },
        class_word=draw(WORD),
        fingerprint=draw(WORD),
        mode=draw(st.sampled_from(Mode)),
        recipe=draw(st.dictionaries(WORD, WORD | st.booleans() | st.integers() | FINITE, max_size=3)),
    )


FINITE = st.floats(allow_nan=False, allow_infinity=False)
SHAPE = st.tuples(st.integers(1, 40), st.integers(1, 900))
WORD = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@given(deltas())
@settings(deadline=None, max_examples=60)
def test_reading_returns_what_was_written_bit_by_bit(delta):
    data = write(delta)
    found = read(data)
    assert same_delta(found, delta)
    assert write(found) == data


def test_any_safetensors_reader_can_read_a_delta():
    delta = make_delta(1)
    tensors = load(write(delta))
    assert set(tensors) == {f"{s}.{h}" for s in SITES for h in ("gaps", "values")} | {"vectors.clip"}
    assert tensors["mid.to_k.values"].tobytes() == delta.values["mid.to_k"].tobytes()


def test_equal_deltas_in_any_order_give_equal_bytes():
    delta = make_delta(2)
    reversed_delta = dataclasses.replace(
        delta,
        shapes=dict(reversed(delta.shapes.items())),
        indices=dict(reversed(delta.indices.items())),
        recipe=dict(reversed(delta.recipe.items())),
        values={s: np.repeat(v, 2)[::2] for s, v in delta.values.items()},  # not contiguous
        vectors={e: np.asfortranarray(np.tile(t, (3, 1)))[:1] for e, t in delta.vectors.items()},
    )
    assert write(reversed_delta) == write(delta)


POCKET = {f"block.{i}.to_{h}": (rows, 256) for i, rows in enumerate([96, 128, 160, 192, 256] * 2) for h in "kv"}
SD15 = {
    f"down_blocks.{b}.attentions.{i}.transformer_blocks.0.attn2.to_{h}": (320 << min(b, 2), 768)
    for b in range(4)
    for i in range(4)
    for h in "kv"
}


@pytest.mark.parametrize("sites", [POCKET, SD15], ids=["pocket", "sd15"])
def test_a_neuron_takes_about_three_bytes(sites):
    rng = np.random.default_rng(0)
    delta = make_delta(0, sites={}, class_word="dog")
    flat = {s: np.sort(rng.choice(r * c, round(0.058 * r * c), replace=False)) for s, (r, c) in sites.items()}
    delta = dataclasses.replace(
        delta, shapes=sites, indices=flat, values={s: np.ones(len(i), np.float16) for s, i in flat.items()}
    )
    data = write(delta)
    assert len(data) <= 3.2 * delta.n_neurons + 8192
    assert same_delta(read(data), delta)


def test_arrays_that_were_read_are_writable():
    found = read(write(make_delta(3)))
    arrays = [*found.indices.values(), *found.values.values(), *found.vectors.values()]
    assert all(a.flags.writeable and a.flags.c_contiguous and a.flags.aligned for a in arrays)


def test_indices_read_alone_are_those_of_the_whole_delta():
    delta = make_delta(4)
    found = read_indices(write(delta))
    assert list(found) == sorted(delta.shapes)
    assert all(np.array_equal(found[s], delta.indices[s]) for s in delta.shapes)


def broken(**changes):
    return dataclasses.replace(DELTA, **changes)


@pytest.mark.parametrize(
    ("delta", "part"),
    [
        (broken(values=DELTA.values | {"a.to_k": np.array([np.inf, 0, 0, 0], np.float16)}), "finite"),
        (broken(vectors={"clip": np.array([[np.nan]], np.float16)}), "finite"),
        (broken(indices=DELTA.indices | {"a.to_k": np.array([0, 511, 255, 1199])}), "sorted"),
        (broken(indices=DELTA.indices | {"a.to_k": np.array([0, 0, 1, 2])}), "sorted"),
        (broken(indices=DELTA.indices | {"a.to_k": np.array([0, 1, 2, 1200])}), "below"),
        (broken(indices=DELTA.indices | {"a.to_k": np.array([-1, 1, 2, 3])}), "sorted"),
        (broken(indices=DELTA.indices | {"a.to_k": np.array([1, 2, 3])}), "3"),
        (broken(values=DELTA.values | {"a.to_k": np.zeros(4, np.float32)}), "float16"),
        (broken(vectors={}), "vectors"),
        (broken(vectors={"clip": np.zeros(3, np.float16)}), "vectors"),
        (broken(vectors={"a": np.zeros((1, 3), np.float16), "b": np.zeros((2, 3), np.float16)}), "same number"),
        (broken(class_word="a\x1b[2J"), "class_word"),
        (broken(class_word=" "), "class_word"),
        (broken(recipe={"learning_rate": float("nan")}), "recipe"),
        (broken(shapes={}, indices={}, values={}), "sites"),
        (broken(indices={"a.to_k": DELTA.indices["a.to_k"]}), "sites"),
        (
            dataclasses.replace(
                make_delta(0, sites={"vectors": (2, 2)}), vectors={"gaps": np.zeros((1, 2), np.float16)}
            ),
            "share a name",
        ),
    ],
)
def test_a_delta_that_could_not_be_read_again_is_not_written(delta, part):
    with pytest.raises(NotSavedError, match=part):
        write(delta)


def rewritten(change):
    """The golden file, its header changed by a function; lengths are kept right."""
    data = DELTA_FILE.read_bytes()
    n_header = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n_header])
    meta = json.loads(header["__metadata__"]["cnsctl"])
    body = bytearray(data[8 + n_header :])
    change(header, meta, body)
    if "__metadata__" in header and "cnsctl" in header["__metadata__"]:
        header["__metadata__"]["cnsctl"] = json.dumps(meta)
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(body)


def test_a_header_that_is_rewritten_but_unchanged_is_read():
    """Otherwise the refusals below would prove nothing."""
    assert same_delta(read(rewritten(lambda _h, _m, _b: None)), DELTA)


DISTRUST = {
    "kind": lambda h, m, b: m.update(kind="adapter"),
    "format zero": lambda h, m, b: m.update(format=0),
    "format true": lambda h, m, b: m.update(format=True),
    "format missing": lambda h, m, b: m.pop("format"),
    "mode": lambda h, m, b: m.update(mode="blend"),
    "class word": lambda h, m, b: m.update(class_word="dog\n"),
    "class word kind": lambda h, m, b: m.update(class_word=7),
    "surrogate": lambda h, m, b: m.update(class_word="\ud800"),
    "fingerprint": lambda h, m, b: m.update(fingerprint=None),
    "recipe": lambda h, m, b: m.update(recipe=[]),
    "recipe value": lambda h, m, b: m["recipe"].update(steps=[1]),
    "recipe escape": lambda h, m, b: m["recipe"].update(policy="\x1b]0;x"),
    "shapes": lambda h, m, b: m.update(shapes=[]),
    "shape text": lambda h, m, b: m["shapes"].update({"a.to_k": ["2", 600]}),
    "shape negative": lambda h, m, b: m["shapes"].update({"a.to_k": [-2, -600]}),
    "shape bool": lambda h, m, b: m["shapes"].update({"a.to_v": [True, 3]}),
    "shape zero": lambda h, m, b: m["shapes"].update({"a.to_v": [0, 3]}),
    "shape huge": lambda h, m, b: m["shapes"].update({"a.to_k": [10**30, 600]}),
    "shape small": lambda h, m, b: m["shapes"].update({"a.to_k": [2, 599]}),
    "site name": lambda h, m, b: m["shapes"].update({"../x": [2, 2]}),
    "site missing": lambda h, m, b: h.pop("a.to_v.gaps"),
    "site extra": lambda h, m, b: h.update({"b.gaps": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}),
    "encoder name": lambda h, m, b: h.update({"vectors./": h.pop("vectors.clip")}),
    "no vectors": lambda h, m, b: (h.pop("vectors.clip"), b.__delitem__(slice(8, 14))),
    "dtype": lambda h, m, b: h["a.to_k.values"].update(dtype="BF16"),
    "dtype unknown": lambda h, m, b: h["a.to_k.values"].update(dtype=["F16"]),
    "dtype of gaps": lambda h, m, b: h["a.to_k.gaps"].update(dtype="F16"),
    "dtype of vectors": lambda h, m, b: h["vectors.clip"].update(dtype="U16"),
    "shape of values": lambda h, m, b: h["a.to_k.values"].update(shape=[2, 2]),
    "shape scalar": lambda h, m, b: h["a.to_k.values"].update(shape=[]),
    "shape deep": lambda h, m, b: h["vectors.clip"].update(shape=[1, 1, 3]),
    "shape float": lambda h, m, b: h["a.to_k.values"].update(shape=[4.0]),
    "overlap": lambda h, m, b: h["vectors.clip"].update(data_offsets=[6, 12]),
    "gap": lambda h, m, b: (h["vectors.clip"].update(data_offsets=[10, 16]), b.extend(b"xx")),
    "offsets turned": lambda h, m, b: h["vectors.clip"].update(data_offsets=[14, 8]),
    "offsets past": lambda h, m, b: h["vectors.clip"].update(data_offsets=[10**6, 10**6 + 6]),
    "offset missing": lambda h, m, b: h["vectors.clip"].update(data_offsets=[8]),
    "entry": lambda h, m, b: h.update({"vectors.clip": None}),
    "entry extra": lambda h, m, b: h["vectors.clip"].update(more=1),
    "metadata missing": lambda h, m, b: h.pop("__metadata__"),
    "metadata two": lambda h, m, b: h["__metadata__"].update(other="x"),
    "metadata other": lambda h, m, b: h.update({"__metadata__": {"other": "{}"}}),
    "trailing": lambda h, m, b: b.extend(b"\0"),
    "short": lambda h, m, b: b.__delitem__(-1),
    "nan value": lambda h, m, b: b.__setitem__(slice(0, 2), b"\x00\x7e"),
    "inf vector": lambda h, m, b: b.__setitem__(slice(8, 10), b"\x00\x7c"),
}


@pytest.mark.parametrize("change", DISTRUST.values(), ids=DISTRUST.keys())
def test_a_file_with_one_wrong_part_is_refused(change):
    data = rewritten(change)
    with pytest.raises(StoreDamagedError):
        read(data)


def test_a_newer_format_is_refused_by_name_even_if_the_rest_is_unknown():
    def change(header, meta, body):
        meta.clear()
        meta.update(format=2, sites="in another way")
        header["a.to_k.values"]["dtype"] = "F8_E4M3"

    with pytest.raises(FormatTooNewError, match="newer cnsctl") as caught:
        read(rewritten(change))
    assert caught.value.reason == "upgrade"


def with_header(raw, body=b""):
    return len(raw).to_bytes(8, "little") + raw + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8,
        (1 << 63).to_bytes(8, "little") + b"{}",
        with_header(b"{" + b" " * (1 << 20) + b"}"),
        with_header(b"[]"),
        with_header(b" {}"),
        with_header(b"\xff\xfe{}"),
        with_header(b"{" + b'"a":[' * 100_000),
        with_header(b'{"a":NaN}'),
        with_header(b'{"a":' + b"9" * 5000 + b"}"),
        with_header(b'{"__metadata__":{"cnsctl":"\\ud800"}}'),
        with_header(b'{"__metadata__":{"cnsctl":"[]"}}'),
    ],
)
def test_an_invalid_header_is_refused(data):
    with pytest.raises(StoreDamagedError):
        read(data)


def test_a_header_begins_with_its_brace():
    """The safetensors format requires it; JSON alone allows spaces."""
    data = DELTA_FILE.read_bytes()
    n_header = int.from_bytes(data[:8], "little")
    with pytest.raises(StoreDamagedError, match="not a JSON object"):
        read(with_header(b" " + data[8 : 8 + n_header], data[8 + n_header :]))


@pytest.mark.parametrize("where", ["header", "metadata"])
def test_a_duplicate_key_is_refused(where):
    data = DELTA_FILE.read_bytes()
    n_header = int.from_bytes(data[:8], "little")
    raw = data[8 : 8 + n_header].rstrip()
    twice = (
        raw[:-1] + b',"vectors.clip":{"data_offsets":[8,14],"dtype":"F16","shape":[1,3]}}'
        if where == "header"
        else raw.replace(b'\\"kind\\":\\"delta\\"', b'\\"kind\\":\\"delta\\",\\"kind\\":\\"delta\\"')
    )
    assert len(twice) > len(raw)
    with pytest.raises(StoreDamagedError, match="duplicate key"):
        read(with_header(twice, data[8 + n_header :]))


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_random_damage_is_refused_or_still_a_valid_delta(data):
    """There is no other exception, and the safetensors library accepts every file that is accepted here."""
    valid = data.draw(st.sampled_from([DELTA_FILE.read_bytes(), write(make_delta(5))]))
    damaged = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(["flip", "cut", "extend", "insert", "delete"]))
        at = data.draw(st.integers(0, max(0, len(damaged) - 1)))
        if kind == "flip" and damaged:
            damaged[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del damaged[at:]
        elif kind == "extend":
            damaged += data.draw(st.binary(min_size=1, max_size=9))
        elif kind == "insert":
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=3))
        else:
            del damaged[at : at + 1]
    try:
        found = read(bytes(damaged))
    except (StoreDamagedError, FormatTooNewError):
        return
    load(bytes(damaged))
    assert same_delta(read(write(found)), found)


def test_a_flipped_bit_of_the_header_raises_no_other_exception():
    data = DELTA_FILE.read_bytes()
    n_refused = 0
    for at in range(8 + int.from_bytes(data[:8], "little")):
        for bit in (1, 4, 128):
            damaged = bytearray(data)
            damaged[at] ^= bit
            try:
                read(bytes(damaged))
            except (StoreDamagedError, FormatTooNewError):
                n_refused += 1
    assert n_refused > 0
