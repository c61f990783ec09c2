"""Rules of reading files of other programs: scales, names, other base models, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from concept_files import SHAPES, save, zeros_file

from cnsctl import formats
from cnsctl.errors import BaseModelError, DamagedFileError, UnknownFormatError
from cnsctl.key_names import Stem, key_table

TABLE = key_table(SHAPES)
SITE = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
OTHER = "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v"
RNG = np.random.default_rng(0)


def factors(rank, site=SITE):
    rows, columns = SHAPES[site]
    return RNG.standard_normal((rank, columns)).astype(np.float32), RNG.standard_normal((rows, rank)).astype(np.float32)


def read(path):
    """Everything that a file contains, read at once."""
    with formats.opened(path, SHAPES) as found:
        return found, {site: make() for site, make in found.weights.items()}


FORMS = {
    "kohya": (Stem.KOHYA, ".lora_down.weight", ".lora_up.weight"),
    "kohya, original": (Stem.KOHYA_ORIGINAL, ".lora_down.weight", ".lora_up.weight"),
    "lycoris": (Stem.LYCORIS, ".lora_down.weight", ".lora_up.weight"),
    "diffusion_model": (Stem.ORIGINAL, ".lora_down.weight", ".lora_up.weight"),
    "peft": (Stem.UNET, ".lora_A.weight", ".lora_B.weight"),
    "peft, named adapter": (Stem.UNET, ".lora_A.default.weight", ".lora_B.default.weight"),
    "peft, model": (Stem.PEFT, ".lora_A.weight", ".lora_B.weight"),
    "diffusers": (Stem.UNET, ".lora.down.weight", ".lora.up.weight"),
    "diffusers, linear layer": (Stem.UNET, ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    "diffusers, processor": (Stem.UNET_PROCESSOR, "_lora.down.weight", "_lora.up.weight"),
    "diffusers, early": (Stem.DIFFUSERS_PROCESSOR, "_lora.down.weight", "_lora.up.weight"),
}


@pytest.mark.parametrize(("stem", "down", "up"), FORMS.values(), ids=FORMS)
def test_the_difference_of_a_lora_is_up_times_down_whatever_its_names(tmp_path, stem, down, up):
    A, B = factors(4)
    name = TABLE.name(stem, SITE)
    found, weights = read(save(tmp_path / "x", {name + down: A, name + up: B}))
    assert found.format == "lora"
    assert found.differences
    assert found.also == ()
    assert np.allclose(weights[SITE], B @ A, atol=1e-5)


@pytest.mark.parametrize("stem", [Stem.KOHYA, Stem.KOHYA_ORIGINAL, Stem.LYCORIS, Stem.ORIGINAL, Stem.UNET])
def test_a_dense_difference_is_read_whatever_its_name(tmp_path, stem):
    W = RNG.standard_normal(SHAPES[SITE]).astype(np.float32)
    found, weights = read(save(tmp_path / "x", {f"{TABLE.name(stem, SITE)}.diff": W}))
    assert (found.format, found.differences) == ("diff", True)
    assert np.array_equal(weights[SITE], W)


@pytest.mark.parametrize("stem", [Stem.DIFFUSERS, Stem.UNET, Stem.ORIGINAL, Stem.CHECKPOINT])
def test_a_whole_weight_is_read_whatever_its_name(tmp_path, stem):
    W = RNG.standard_normal(SHAPES[SITE]).astype(np.float32)
    found, weights = read(save(tmp_path / "x", {f"{TABLE.name(stem, SITE)}.weight": W}))
    assert (found.format, found.differences) == ("kv", False)
    assert np.array_equal(weights[SITE], W)


def test_weights_in_integers_are_not_supported(tmp_path):
    with pytest.raises(UnknownFormatError, match="unsupported dtype"):
        read(save(tmp_path / "x", {f"{STEM}.diff": np.zeros(SHAPES[SITE], np.int8)}))


@pytest.mark.parametrize("alpha", [1.0, 4.0, 6.5])
def test_alpha_scales_each_site_by_its_own_rank(tmp_path, alpha):
    (A, B), (C, D) = factors(4), factors(2, OTHER)
    k, v = TABLE.name(Stem.KOHYA, SITE), TABLE.name(Stem.KOHYA, OTHER)
    tensors = {f"{k}.lora_down.weight": A, f"{k}.lora_up.weight": B, f"{k}.alpha": np.float32(alpha)}
    tensors |= {f"{v}.lora_down.weight": C, f"{v}.lora_up.weight": D, f"{v}.alpha": np.float32([alpha])}
    _, weights = read(save(tmp_path / "x", tensors))
    assert np.allclose(weights[SITE], B @ A * alpha / 4, atol=1e-4)
    assert np.allclose(weights[OTHER], D @ C * alpha / 2, atol=1e-4)


def test_patterns_of_alpha_without_end_are_refused(tmp_path):
    A, B = factors(4)
    name = TABLE.name(Stem.UNET, SITE)
    settings = {"unet.lora_alpha": 8, "unet.alpha_pattern": {f"x{i}": 1 for i in range(5000)}}
    tensors = {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
    with pytest.raises(DamagedFileError, match="alpha_pattern: 5000 entries"):
        read(save(tmp_path / "x", tensors, {"lora_adapter_metadata": json.dumps(settings)}))


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"unet.lora_alpha": 8, "unet.r": 4}, 2.0),
        ({"lora_alpha": 8}, 2.0),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 4.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {SITE: 1}}, 0.25),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"^x": 1}}, 2.0),
        ({"text_encoder.lora_alpha": 8}, 1.0),
        ({"unet.lora_alpha": True}, 1.0),
        ([], 1.0),
    ],
)
def test_the_record_of_peft_scales_as_peft_does(tmp_path, settings, scale):
    A, B = factors(4)
    name = TABLE.name(Stem.UNET, SITE)
    tensors = {f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}
    _, weights = read(save(tmp_path / "x", tensors, {"lora_adapter_metadata": json.dumps(settings)}))
    assert np.allclose(weights[SITE], B @ A * scale, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_alpha_may_be_an_integer_as_diffusers_converts_to_kohyas_names(tmp_path, dtype):
    A, B = factors(4)
    name = TABLE.name(Stem.KOHYA, SITE)
    tensors = {f"{name}.lora_down.weight": A, f"{name}.lora_up.weight": B, f"{name}.alpha": np.array(8, dtype)}
    _, weights = read(save(tmp_path / "x", tensors))
    assert np.allclose(weights[SITE], 2 * B @ A, atol=1e-5)


def test_factors_that_are_convolutions_of_one_pixel_are_read(tmp_path):
    A, B = factors(4)
    name = TABLE.name(Stem.KOHYA, SITE)
    tensors = {f"{name}.lora_down.weight": A[..., None, None], f"{name}.lora_up.weight": B[..., None, None]}
    _, weights = read(save(tmp_path / "x", tensors))
    assert np.allclose(weights[SITE], B @ A, atol=1e-5)


def pair(site=SITE, stem=Stem.KOHYA, rank=4):
    A, B = factors(rank, site)
    name = TABLE.name(stem, site)
    return {f"{name}.lora_down.weight": A, f"{name}.lora_up.weight": B}


def test_what_a_file_changes_beside_keys_and_values_is_named(tmp_path):
    more = ["lora_te_text_model_encoder_layers_0_mlp_fc1", "lora_unet_mid_block_attentions_0_proj_in"]
    tensors = pair()
    for name in more:
        tensors |= {f"{name}.lora_{half}.weight": np.ones((2, 2), np.float32) for half in ("down", "up")}
    found, weights = read(save(tmp_path / "x", tensors))
    assert found.also == tuple(sorted(more))
    assert set(weights) == {SITE}


def test_a_name_of_control_characters_is_named_without_them(tmp_path):
    found, _ = read(save(tmp_path / "x", pair() | {"a\x1b[2J.alpha": np.float32(1)}))
    assert found.also[0].isprintable()


def test_a_lora_with_token_embeddings_has_them(tmp_path):
    tables = {
        "bundle_emb.dog.clip_l": np.ones((2, 4), np.float32),
        "bundle_emb.dog.clip_g": np.ones((2, 6), np.float32),
    }
    found, _ = read(save(tmp_path / "x", pair() | tables))
    assert found.token == "dog"  # noqa: S105
    assert {encoder: table.shape for encoder, table in found.vectors.items()} == {
        "text_encoder": (2, 4),
        "text_encoder_2": (2, 6),
    }
    assert found.also == ()


def test_token_embeddings_of_two_concepts_are_named_and_not_mixed(tmp_path):
    tables = {f"bundle_emb.{name}.string_to_param.*": np.ones((1, 4), np.float32) for name in ("dog", "hat")}
    found, _ = read(save(tmp_path / "x", pair() | tables))
    assert found.vectors == {}
    assert len(found.also) == 2


STEM = TABLE.name(Stem.KOHYA, SITE)
A, B = factors(4)
DAMAGED = {
    "no up": {f"{STEM}.lora_down.weight": A},
    "no down": pair(OTHER) | {f"{STEM}.lora_up.weight": B},
    "alpha alone": pair(OTHER) | {f"{STEM}.alpha": np.float32(4)},
    "ranks": {f"{STEM}.lora_down.weight": A, f"{STEM}.lora_up.weight": B[:, :3]},
    "rank zero": {f"{STEM}.lora_down.weight": A[:0], f"{STEM}.lora_up.weight": B[:, :0]},
    "dimensions": {f"{STEM}.lora_down.weight": A[0], f"{STEM}.lora_up.weight": B},
    "kernel": {f"{STEM}.lora_down.weight": np.zeros((4, 24, 3, 3), np.float32), f"{STEM}.lora_up.weight": B},
    "alpha": pair() | {f"{STEM}.alpha": np.float32([1, 2])},
    "alpha nan": pair() | {f"{STEM}.alpha": np.float32(np.nan)},
    "nan": {f"{STEM}.lora_down.weight": A * np.nan, f"{STEM}.lora_up.weight": B},
    "overflow": {f"{STEM}.lora_down.weight": A * 1e30, f"{STEM}.lora_up.weight": B * 1e30},
    "twice": pair() | pair(stem=Stem.KOHYA_ORIGINAL),
    "difference too": pair() | {f"{STEM}.diff": np.zeros(SHAPES[SITE], np.float32)},
    "difference nan": {f"{STEM}.diff": np.full(SHAPES[SITE], np.nan, np.float32)},
    "two of a difference": {
        f"{STEM}.diff": np.zeros(SHAPES[SITE], np.float32),
        f"{TABLE.name(Stem.LYCORIS, SITE)}.diff": np.zeros(SHAPES[SITE], np.float32),
    },
    "whole nan": {f"{SITE}.weight": np.full(SHAPES[SITE], np.inf, np.float32)},
    "embedding nan": {"<dog>": np.full(4, np.nan, np.float32)},
    "embeddings": {"clip_l": np.zeros((1, 4), np.float32), "clip_g": np.zeros((2, 4), np.float32)},
}


@pytest.mark.parametrize("tensors", DAMAGED.values(), ids=DAMAGED)
def test_a_file_of_a_known_format_that_does_not_add_up_is_damaged(tmp_path, tensors):
    path = save(tmp_path / "x", tensors)
    assert formats.detect(path)
    with pytest.raises(DamagedFileError, match="is damaged"):
        read(path)


BEYOND = {
    "rank": {f"{STEM}.lora_down.weight": (1 << 30, 24), f"{STEM}.lora_up.weight": (16, 1 << 30)},
    "token embedding": {"<x>": (1 << 33,)},
    "token embedding in a LoRA": {
        f"{STEM}.lora_down.weight": (4, 24),
        f"{STEM}.lora_up.weight": (16, 4),
        "bundle_emb.x.string_to_param.*": (1 << 16, 1 << 17),
    },
    "token embedding of Custom Diffusion": {f"{SITE}.weight": (16, 24), "modifier_token.<x>": (1 << 33,)},
}
"""Shapes of files that take no place on the disk, and more memory than any machine has."""


@pytest.mark.parametrize("shapes", BEYOND.values(), ids=BEYOND)
def test_no_tensor_is_read_that_is_larger_than_any_concept_needs(tmp_path, shapes):
    path = zeros_file(tmp_path / "x", shapes)
    with pytest.raises(DamagedFileError, match="damaged"):
        read(path)


ELSEWHERE = {
    "columns": {f"{STEM}.lora_down.weight": A[:, :20], f"{STEM}.lora_up.weight": B},
    "rows": {f"{STEM}.diff": np.zeros((8, 24), np.float32)},
    "turned": {f"{SITE}.weight": np.zeros((24, 16), np.float32)},
    "no such block": {
        "lora_unet_down_blocks_7_attentions_0_transformer_blocks_0_attn2_to_k.diff": np.zeros((16, 24), np.float32)
    },
    "no such original block": {
        "lora_unet_input_blocks_7_1_transformer_blocks_0_attn2_to_v.diff": np.zeros((16, 24), np.float32)
    },
}


@pytest.mark.parametrize("tensors", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_file_with_other_sites_or_shapes_is_for_another_base_model(tmp_path, tensors):
    path = save(tmp_path / "x", tensors)
    with pytest.raises(BaseModelError, match="another base model") as caught:
        read(path)
    assert caught.value.reason == "other-base-file"


@pytest.mark.parametrize(
    ("ending", "method"),
    [
        (".dora_scale", "DoRA"),
        (".lora_magnitude_vector.weight", "DoRA"),
        (".hada_w1_a", "LoHa"),
        (".lokr_w1", "LoKr"),
    ],
)
def test_a_site_that_is_changed_in_another_way_is_refused_by_the_name_of_the_method(tmp_path, ending, method):
    path = save(tmp_path / "x", pair() | {STEM + ending: np.ones((4, 4), np.float32)})
    with pytest.raises(UnknownFormatError, match=f"changed by {method}"):
        read(path)


def test_the_first_form_of_custom_diffusion_gives_weights_and_token(tmp_path):
    W = RNG.standard_normal(SHAPES[SITE]).astype(np.float32)
    tensors = {f"unet.{SITE}.weight": W, "modifier_token.<new1>": np.ones(12, np.float32)}
    found, weights = read(save(tmp_path / "x", tensors))
    assert (found.format, found.token, found.differences) == ("kv", "<new1>", False)
    assert np.array_equal(weights[SITE], W)
    assert found.vectors["text_encoder"].shape == (1, 12)


def test_queries_and_outputs_of_custom_diffusion_are_named(tmp_path):
    layer = SITE.removesuffix(".to_k")
    W = np.ones(SHAPES[SITE], np.float32)
    tensors = {
        f"{layer}.processor.to_k_custom_diffusion.weight": W,
        f"{layer}.processor.to_q_custom_diffusion.weight": np.ones((16, 16), np.float32),
        f"{layer}.processor.to_out_custom_diffusion.0.bias": np.ones(16, np.float32),
    }
    found, weights = read(save(tmp_path / "x", tensors))
    assert found.format == "custom-diffusion"
    assert set(weights) == {SITE}
    assert [part.rpartition(".to_")[2] for part in found.also] == ["out_custom_diffusion.0", "q"]


@pytest.mark.parametrize(
    ("tensors", "token", "shapes"),
    [
        ({"<cat-toy>": np.ones(768, np.float16)}, "<cat-toy>", {"text_encoder": (1, 768)}),
        ({"sks": np.ones((2, 768), np.float32)}, "sks", {"text_encoder": (2, 768)}),
        ({"emb_params": np.ones((8, 1024), np.float32)}, None, {"text_encoder": (8, 1024)}),
        (
            {"clip_g": np.ones((3, 1280), np.float16), "clip_l": np.ones((3, 768), np.float16)},
            None,
            {"text_encoder": (3, 768), "text_encoder_2": (3, 1280)},
        ),
        (
            {
                "string_to_param.*": np.ones((4, 768), np.float32),
                "string_to_token.*": np.int64(265),
                "step": np.int64(9),
            },
            None,
            {"text_encoder": (4, 768)},
        ),
    ],
)
def test_each_kind_of_textual_inversion_is_read(tmp_path, tensors, token, shapes):
    found, _ = read(save(tmp_path / "x", tensors))
    assert (found.format, found.token) == ("embedding", token)
    assert {encoder: table.shape for encoder, table in found.vectors.items()} == shapes


def test_texts_of_a_file_are_printable_and_short(tmp_path):
    texts = {"ss_output_name": "dog", "bad": "\x1b[2J", "long": "x" * 9999, "modelspec.trigger_phrase": "a dog"}
    found, _ = read(save(tmp_path / "x", pair(), texts))
    assert found.metadata == {"ss_output_name": "dog", "modelspec.trigger_phrase": "a dog"}
