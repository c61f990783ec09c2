"""Rules of the safetensors container."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save
from safetensors.torch import save as save_torch

from cnsctl.errors import CnsctlError, DamagedFileError, UnknownFormatError
from cnsctl.formats import tensor_file
from cnsctl.formats.tensor_file import MAX_HEADER, Tensor, TensorFile, byte_size, open_file, write

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
TEXTS = st.dictionaries(NAMES, st.text(st.characters(codec="utf-8"), max_size=8), max_size=3)
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
DTYPES = {"F32": np.float32, "F16": np.float16, "U16": np.uint16, "U8": np.uint8}


@st.composite
def arrays(draw):
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    wanted = draw(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(sorted(DTYPES))), max_size=4))
    return {name: (rng.integers(0, 99, shape).astype(DTYPES[dtype]), dtype) for name, (shape, dtype) in wanted.items()}


def tensors_of(values):
    return [Tensor(name=n, shape=v.shape, dtype=dtype, make=lambda v=v: v) for n, (v, dtype) in values.items()]


def written(tensors, metadata=None):
    stream = io.BytesIO()
    write(stream, tensors, metadata or {})
    return stream.getvalue()


@given(arrays(), TEXTS)
@settings(deadline=None, max_examples=50)
def test_the_safetensors_library_reads_what_was_written_and_the_size_is_known_before(values, metadata):
    data = written(tensors_of(values), metadata)
    assert len(data) == byte_size(tensors_of(values), metadata)
    found = load(data)
    assert set(found) == set(values)
    for name, (array, _) in values.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    file = TensorFile(io.BytesIO(data))
    assert file.metadata == metadata
    for name, (array, dtype) in values.items():
        if dtype.startswith("F"):
            assert np.array_equal(file.read(name), array)
            assert file.read(name).dtype == np.float32


@given(arrays(), TEXTS)
@settings(deadline=None, max_examples=20)
def test_the_order_of_tensors_and_texts_does_not_change_the_bytes(values, metadata):
    backwards = dict(reversed(metadata.items()))
    assert written(tensors_of(values), metadata) == written(tensors_of(values)[::-1], backwards)


def test_one_tensor_is_in_memory_at_a_time():
    events = []

    class Stream(io.BufferedIOBase):
        def write(self, data):
            events.append(len(data))
            return len(data)

    def make(i):
        events.append(f"made {i}")
        return np.full(3, i, np.float16)

    write(Stream(), [Tensor(name=f"t{i}", shape=(3,), dtype="F16", make=lambda i=i: make(i)) for i in range(3)], {})
    assert events[1:] == ["made 0", 6, "made 1", 6, "made 2", 6]


def test_tensors_are_aligned_to_their_dtype():
    odd = [("b", "U8", np.zeros(3)), ("a", "F16", np.zeros(3)), ("c", "F32", np.zeros(1))]
    data = written([Tensor(name=n, shape=v.shape, dtype=d, make=lambda v=v: v) for n, d, v in odd])
    file = TensorFile(io.BytesIO(data))
    body = 8 + int.from_bytes(data[:8], "little")
    assert body % 8 == 0
    assert file.entries["c"].begin % 4 == 0
    assert file.entries["a"].begin % 2 == 0


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 7e4])
def test_a_number_that_fp16_does_not_hold_is_not_written(value):
    with pytest.raises(CnsctlError, match="x: a number is not finite in F16"):
        written([Tensor(name="x", shape=(1,), dtype="F16", make=lambda: np.float32([value]))])


def test_each_dtype_of_weights_is_read_as_float32():
    values = [0.5, -3.0, 1024.0]
    dtypes = {"a": torch.float64, "b": torch.float32, "c": torch.float16, "d": torch.bfloat16}
    file = TensorFile(io.BytesIO(save_torch({n: torch.tensor(values, dtype=d) for n, d in dtypes.items()})))
    assert {entry.dtype for entry in file.entries.values()} == {"F64", "F32", "F16", "BF16"}
    for name in dtypes:
        assert file.read(name).tolist() == values
        assert file.read(name).dtype == np.float32


@given(st.binary(min_size=2, max_size=2))
def test_each_bfloat16_is_read_as_torch_reads_it(raw):
    value = torch.frombuffer(bytearray(raw), dtype=torch.bfloat16).float()
    file = TensorFile(io.BytesIO(header({"x": entry("BF16", [1], 0, 2)}) + raw))
    if not torch.isfinite(value):
        with pytest.raises(DamagedFileError, match="not finite"):
            file.read("x")
    else:
        assert file.read("x").tobytes() == value.numpy().tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_when_they_are_read(dtype, value):
    file = TensorFile(io.BytesIO(save({"x": np.array([1, value], dtype)})))
    with pytest.raises(DamagedFileError, match="'x': a number is not finite"):
        file.read("x")


def test_a_float64_beyond_float32_is_refused():
    with pytest.raises(DamagedFileError, match="not finite"):
        TensorFile(io.BytesIO(save({"x": np.array([1e300])}))).read("x")


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_are_not_weights(dtype):
    with pytest.raises(UnknownFormatError, match="unsupported dtype"):
        TensorFile(io.BytesIO(save({"x": np.array([1], dtype)}))).read("x")


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def header(entries, *, raw=None):
    text = json.dumps(entries).encode() if raw is None else raw
    return len(text).to_bytes(8, "little") + text


GOOD = {"a": entry("F16", [2], 0, 4), "b": entry("F16", [1, 2], 4, 8)}
BODY = bytes(8)


def changed(**entries):
    return header({**GOOD, **entries})


HOSTILE = {
    "overlap": changed(b=entry("F16", [2], 2, 6)) + BODY,
    "same bytes twice": changed(b=entry("F16", [2], 0, 4)) + BODY,
    "gap": changed(b=entry("F16", [2], 6, 10)) + BODY + b"xx",
    "gap at the start": header({"a": entry("F16", [2], 4, 8)}) + BODY,
    "past the end": changed(b=entry("F16", [4], 4, 12)) + BODY,
    "trailing bytes": changed() + BODY + b"x",
    "short": changed() + BODY[:-1],
    "size": changed(b=entry("F16", [3], 4, 8)) + BODY,
    "turned offsets": changed(b=entry("F16", [2], 8, 4)) + BODY,
    "negative offset": changed(a=entry("F16", [2], -4, 0)) + BODY,
    "negative shape": changed(b=entry("F16", [-1, -2], 4, 8)) + BODY,
    "huge shape": changed(b=entry("F16", [1 << 47, 1 << 47], 4, 8)) + BODY,
    "shape beyond": changed(b=entry("F16", [1 << 60], 4, 8)) + BODY,
    "many dimensions": changed(b=entry("F16", [1] * 60 + [2], 4, 8)) + BODY,
    "dtype": changed(b=entry("F17", [2], 4, 8)) + BODY,
    "dtype list": changed(b=entry(["F16"], [2], 4, 8)) + BODY,
    "true": changed(b=entry("F16", [True, 2], 4, 8)) + BODY,
    "float": changed(b=entry("F16", [2.0], 4, 8)) + BODY,
    "one offset": changed(b={"dtype": "F16", "shape": [2], "data_offsets": [4]}) + BODY,
    "extra key": changed(b=entry("F16", [2], 4, 8) | {"x": 1}) + BODY,
    "null": changed(b=None) + BODY,
    "metadata list": header(GOOD | {"__metadata__": ["x"]}) + BODY,
    "metadata number": header(GOOD | {"__metadata__": {"x": 1}}) + BODY,
    "duplicate": header({}, raw=b'{"a":%b,"a":%b}' % ((json.dumps(GOOD["a"]).encode(),) * 2)) + BODY[:4],
    "not json": header({}, raw=b"{nonsense") + BODY,
    "deep": header({}, raw=b'{"a":' + b"[" * 100_000) + BODY,
    "digits": header({}, raw=b'{"a":' + b"9" * 10_000 + b"}") + BODY,
    "length": (1 << 60).to_bytes(8, "little") + b"{}",
    "long header": (MAX_HEADER + 1).to_bytes(8, "little") + b"{" + b" " * (MAX_HEADER + 1),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_file_with_a_wrong_header_is_damaged(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DamagedFileError, match="is damaged"), open_file(tmp_path / "x"):
        pass


def test_the_file_without_a_fault_is_read():
    """Otherwise the refusals above would prove nothing."""
    assert TensorFile(io.BytesIO(changed() + BODY)).read("b").shape == (1, 2)


def test_more_tensors_than_any_model_has_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(tensor_file, "MAX_ENTRIES", 100)
    entries = {str(i): entry("U8", [0], 0, 0) for i in range(101)}
    with pytest.raises(DamagedFileError, match="101 tensors, 100 allowed"):
        TensorFile(io.BytesIO(header(entries)))


def test_a_file_cut_inside_its_header_names_both_lengths():
    whole = changed() + BODY
    with pytest.raises(DamagedFileError, match=r"ends inside its header, after 20 of at least \d+ bytes"):
        TensorFile(io.BytesIO(whole[:20]))


def test_a_file_that_shrinks_after_it_was_opened_is_damaged(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(written([Tensor(name="x", shape=(200_000,), dtype="F16", make=lambda: np.zeros(200_000))]))
    with open_file(path) as file:
        with path.open("r+b") as stream:
            stream.truncate(path.stat().st_size - 2)
        with pytest.raises(DamagedFileError, match="ends inside"):
            file.read("x")


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_mutated_file_is_refused_or_read_as_the_safetensors_library_reads_it(data):
    raw = bytearray(
        written(
            tensors_of({"a": (np.ones((2, 3), np.float16), "F16"), "b": (np.ones(2, np.float32), "F32")}), {"k": "v"}
        )
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        if data.draw(st.booleans()):
            raw[at] = data.draw(st.integers(0, 255))
        else:
            del raw[at]
    try:
        file = TensorFile(io.BytesIO(bytes(raw)))
        values = {name: file.read(name) for name in file.entries}
    except (DamagedFileError, UnknownFormatError):
        return
    try:
        found = load(bytes(raw))
    except (SafetensorError, KeyError, TypeError):
        pytest.fail(f"accepted, but the library refuses it: {bytes(raw)!r}")
    assert all(np.array_equal(values[name], found[name].astype(np.float32)) for name in found)


def test_two_tensors_of_one_name_are_a_mistake_of_the_caller():
    twice = [Tensor(name="x", shape=(), dtype="F16", make=lambda: np.float16(0))] * 2
    with pytest.raises(ValueError, match="two tensors"):
        tensor_file.byte_size(twice, {})
