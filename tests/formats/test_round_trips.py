"""What is exported is read back: exactly, or to the dtype that the format states."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from concept_files import SHAPES, concept, encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from cnsctl import formats
from cnsctl.errors import CnsctlError, DamagedFileError, UsageError
from cnsctl.export_formats import ExportFormat, KeyStyle
from cnsctl.formats import lora_exact, tensor_file, writer
from cnsctl.formats.tensor_file import TensorFile
from cnsctl.key_names import Leaf, split

F = ExportFormat
READERS = {
    F.LORA: formats.FORMATS[2],
    F.LORA_EXACT: formats.FORMATS[2],
    F.DIFF: formats.FORMATS[4],
    F.KV: formats.FORMATS[5],
    F.CUSTOM_DIFFUSION: formats.FORMATS[3],
    F.EMBEDDING: formats.FORMATS[6],
}


def read(data, name, shapes=SHAPES):
    from importlib import import_module

    found = import_module(READERS[name]).read(TensorFile(io.BytesIO(data)), shapes)
    return found, {site: make() for site, make in found.weights.items()}


@st.composite
def shapes(draw):
    columns = draw(st.integers(1, 9))
    sites = draw(st.sets(st.sampled_from(sorted(SHAPES)), min_size=1, max_size=4))
    return {site: (draw(st.integers(1, 12)), columns) for site in sorted(sites)}


@given(shapes(), st.integers(0, 99), st.sampled_from(KeyStyle))
@settings(deadline=None, max_examples=25)
def test_exact_formats_give_the_difference_to_fp16_and_the_weights_exactly(sites, seed, keys):
    given_ = concept(seed, shapes=sites)
    for name in (F.LORA_EXACT, F.DIFF, F.KV, F.CUSTOM_DIFFUSION):
        found, weights = read(encoded(given_, name, keys), name, sites)
        assert set(weights) == set(sites)
        assert found.also == ()
        assert found.token == "<dog>"  # noqa: S105
        for site in sites:
            want = given_.site(site)
            if found.differences:
                half = (want.after - want.before).astype(np.float16)
                assert np.array_equal(weights[site], half.astype(np.float32))
            else:
                assert np.array_equal(weights[site], want.after)


@given(shapes(), st.integers(0, 99), st.sampled_from(KeyStyle), st.integers(1, 5))
@settings(deadline=None, max_examples=25)
def test_a_fitted_lora_gives_the_product_of_its_factors(sites, seed, keys, rank):
    given_ = concept(seed, shapes=sites, rank=rank)
    _, weights = read(encoded(given_, F.LORA, keys), F.LORA, sites)
    for site in sites:
        factors = given_.factors(site)
        assert np.allclose(weights[site], factors.up @ factors.down, atol=1e-4)


@given(st.integers(1, 5), st.integers(0, 99), st.booleans())
@settings(deadline=None, max_examples=25)
def test_token_embeddings_are_read_bit_by_bit(n, seed, two):
    given_ = concept(seed, vectors=n)
    if two:
        second = np.random.default_rng(seed).standard_normal((n, 20)).astype(np.float16)
        given_ = dataclasses.replace(given_, vectors={**given_.vectors, "text_encoder_2": second})
    found, _ = read(encoded(given_, F.EMBEDDING), F.EMBEDDING)
    assert set(found.vectors) == set(given_.vectors)
    for encoder, table in given_.vectors.items():
        assert np.array_equal(found.vectors[encoder], table)


@pytest.mark.parametrize("keys", KeyStyle)
@pytest.mark.parametrize("name", formats.WRITERS)
def test_equal_concepts_give_equal_bytes_whose_number_is_known_before(name, keys):
    data = encoded(concept(), name, keys)
    backwards = dataclasses.replace(concept(), shapes=dict(reversed(SHAPES.items())))
    assert encoded(backwards, name, keys) == data
    size = tensor_file.byte_size(writer(name).tensors(concept(), keys), writer(name).metadata(concept(), keys))
    assert size == len(data)
    assert set(load(data)) == {tensor.name for tensor in writer(name).tensors(concept(), keys)}


@pytest.mark.parametrize("keys", KeyStyle)
@pytest.mark.parametrize("name", [F.LORA, F.LORA_EXACT])
def test_a_lora_has_one_rank_at_all_sites_and_alpha_says_the_same(name, keys):
    """Each reader then scales by 1: by alpha / rank, by the commonest rank, or not at all."""
    tensors = load(encoded(concept(), name, keys))
    ranks = {len(values) for key, values in tensors.items() if split(key)[1] is Leaf.DOWN}
    ranks |= {values.shape[1] for key, values in tensors.items() if split(key)[1] is Leaf.UP}
    assert len(ranks) == 1
    alphas = {float(values) for key, values in tensors.items() if split(key)[1] is Leaf.ALPHA}
    assert alphas == ({float(*ranks)} if keys is KeyStyle.KOHYA else set())


def test_factors_of_a_lower_rank_are_filled_with_zeros():
    given_ = concept(rank=3)
    first = min(SHAPES)

    def factors(site):
        found = given_.factors(site)
        if site != first:
            return found
        return dataclasses.replace(found, down=found.down[:1], up=found.up[:, :1])

    uneven = dataclasses.replace(given_, factors=factors)
    _, weights = read(encoded(uneven, F.LORA), F.LORA)
    assert np.allclose(weights[first], factors(first).up @ factors(first).down, atol=1e-4)


def test_the_rank_of_an_exact_lora_is_the_largest_that_a_site_needs():
    assert lora_exact.rank_of({"a": (320, 768), "b": (1280, 768)}) == 768
    assert lora_exact.rank_of({"a": (640, 2048), "b": (1280, 2048)}) == 1280


def test_weights_that_fp16_does_not_hold_are_written_in_fp32():
    given_ = concept(half=False)
    for name in (F.KV, F.CUSTOM_DIFFUSION):
        data = encoded(given_, name)
        assert {str(values.dtype) for values in load(data).values()} == {"float32"}
        _, weights = read(data, name)
        assert all(np.array_equal(weights[site], given_.site(site).after) for site in SHAPES)


def test_custom_diffusion_names_each_self_attention_once_with_no_numbers():
    tensors = load(encoded(concept(), F.CUSTOM_DIFFUSION))
    empty = {name for name, values in tensors.items() if values.shape == (0,)}
    assert empty == {site.partition(".attn2")[0] + ".attn1.processor" for site in SHAPES}


@pytest.mark.parametrize(
    ("n", "names"),
    [(1, {"<dog>": (12,)}), (3, {"emb_params": (3, 12)})],
)
def test_an_embedding_has_the_form_that_all_programs_read(n, names):
    found = load(encoded(concept(vectors=n), F.EMBEDDING))
    assert {name: values.shape for name, values in found.items()} == names


def test_a_concept_that_a_format_cannot_hold_is_refused():
    with pytest.raises(UsageError, match="no LoRA was fitted"):
        encoded(dataclasses.replace(concept(), factors=None), F.LORA)
    with pytest.raises(UsageError, match="text encoders t5, text_encoder"):
        encoded(
            dataclasses.replace(concept(), vectors={"t5": np.ones((1, 2)), "text_encoder": np.ones((1, 2))}),
            F.EMBEDDING,
        )
    large = dataclasses.replace(
        concept(),
        site=lambda site: dataclasses.replace(concept().site(site), after=np.full(SHAPES[site], 1e6, np.float32)),
    )
    with pytest.raises(CnsctlError, match="not finite in F16"):
        encoded(large, F.DIFF)


SMALL = dict.fromkeys(list(SHAPES)[:2], (3, 4))
FILES = {name: encoded(concept(shapes=SMALL, rank=1), name) for name in formats.WRITERS}


@given(st.sampled_from(sorted(FILES)), st.data())
@settings(deadline=None, max_examples=100)
def test_a_mutated_file_raises_no_other_error(tmp_path_factory, name, data):
    raw = bytearray(FILES[name])
    end = data.draw(st.sampled_from([8, 8 + int.from_bytes(raw[:8], "little"), len(raw)]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(end, len(raw)) - 1))
        match data.draw(st.sampled_from(["set", "delete", "copy"])):
            case "set":
                raw[at] = data.draw(st.integers(0, 255))
            case "delete":
                del raw[at : at + data.draw(st.integers(1, 3))]
            case "copy":
                raw[at:at] = raw[at : at + data.draw(st.integers(1, 60))]
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(raw)
    try:
        with formats.opened(path, SMALL) as found:
            for make in found.weights.values():
                make()
    except CnsctlError:
        return
    load(bytes(raw))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, name):
    path = tmp_path / "x"
    for length in range(0, len(FILES[name]), 61):
        path.write_bytes(FILES[name][:length])
        with pytest.raises(DamagedFileError if length > 8 else UsageError), formats.opened(path, SMALL):
            pass
