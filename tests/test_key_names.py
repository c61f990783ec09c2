"""Rules of the names of weights: the table agrees with the converters of diffusers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from hypothesis import given
from hypothesis import strategies as st

import cnsctl
from cnsctl.bases.base_folder import POCKET
from cnsctl.key_names import LEAVES, Leaf, Stem, is_keys_or_values, key_table, original_name, split

CONFIGS = Path(cnsctl.__file__).parent / "bases/configs"
UNETS = {
    "sd15": CONFIGS / "sd15/unet/config.json",
    "sd21": CONFIGS / "sd21/unet/config.json",
    "sdxl": CONFIGS / "sdxl/unet/config.json",
    "pocket": POCKET / "unet/config.json",
}


@pytest.fixture(scope="module", params=UNETS)
def unet(request):
    config = json.loads(UNETS[request.param].read_text())
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config)


def sites_of(unet):
    names = (name.removesuffix(".weight") for name in unet.state_dict())
    return [name for name in names if name.endswith((".attn2.to_k", ".attn2.to_v"))]


def test_each_name_leads_back_to_its_site_and_no_two_are_equal(unet):
    sites = sites_of(unet)
    table = key_table(sites)
    assert len(table.names) == len(Stem) * len(sites) == len(table.sites)
    for stem in Stem:
        for site in sites:
            name = table.name(stem, site)
            assert table.site(name) == site
            assert is_keys_or_values(name)


def test_original_names_are_those_that_the_converter_of_checkpoints_expects(unet):
    """The converter gives each weight the name that it has in diffusers."""
    sites, config = sites_of(unet), dict(unet.config)
    table = key_table(sites)
    stored = {f"{table.name(Stem.CHECKPOINT, site)}.weight": site for site in sites}
    stored |= dict.fromkeys(originals_beside(unet), "")
    found = convert_ldm_unet_checkpoint(stored, config)
    converted = {name.removesuffix(".weight"): site for name, site in found.items() if site}
    assert converted == {site: site for site in sites}


def originals_beside(unet):
    """The weights that the converter reads by name."""
    prefix = "model.diffusion_model."
    names = ["time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2", "label_emb.0.0", "label_emb.0.2"]
    yield from (f"{prefix}{name}.{kind}" for name in names for kind in ("weight", "bias"))
    config = unet.config
    per_block, n_blocks = config.layers_per_block, len(config.block_out_channels)
    for block in range(1, n_blocks):
        yield from (f"{prefix}input_blocks.{block * (per_block + 1)}.0.op.{kind}" for kind in ("weight", "bias"))
    layers = [f"input_blocks.{i}.0" for i in range(1, n_blocks * (per_block + 1))]
    layers += [f"output_blocks.{i}.0" for i in range(n_blocks * (per_block + 1))]
    layers += ["middle_block.0", "middle_block.1", "middle_block.2"]
    yield from (f"{prefix}{layer}.in_layers.0.weight" for layer in layers)


def test_kohya_names_become_those_of_the_unet_in_the_converter_of_loras(unet):
    sites = sites_of(unet)
    table = key_table(sites)
    for stem in (Stem.KOHYA, Stem.KOHYA_ORIGINAL):
        stored = {
            f"{table.name(stem, site)}.lora_{half}.weight": torch.zeros(1, 1)
            for site in sites
            for half in ("down", "up")
        }
        mapped = _maybe_map_sgm_blocks_to_diffusers(dict(stored), unet.config)
        found, _ = _convert_non_diffusers_lora_to_diffusers(mapped)
        plain = {
            name.replace(".processor", "").replace("_lora.down.weight", "") for name in found if "down.weight" in name
        }
        assert plain == {f"unet.{site}" for site in sites}


def test_a_base_model_that_is_not_such_a_unet_has_no_original_names():
    site = "transformer_blocks.0.attn2.to_k"
    table = key_table([site])
    assert (Stem.ORIGINAL, site) not in table.names
    assert table.site("lora_unet_transformer_blocks_0_attn2_to_k") == site
    assert original_name("mid_block.attentions.1.transformer_blocks.0.attn2.to_k", 2) is None
    assert original_name("down_blocks.attentions.0.x", 2) is None


def test_layers_per_block_are_found_without_attention_on_the_way_down():
    table = key_table([f"up_blocks.1.attentions.{i}.transformer_blocks.0.attn2.to_k" for i in range(4)])
    assert table.site("diffusion_model.output_blocks.4.1.transformer_blocks.0.attn2.to_k") == (
        "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    )


@given(st.sampled_from(sorted(LEAVES)))
def test_each_ending_is_split_from_the_name_before_it(ending):
    assert split(f"x.to_k{ending}") == ("x.to_k", LEAVES[ending])


def test_another_ending_is_not_a_part_of_a_weight():
    assert split("a.to_k.hada_w1_a") == ("a.to_k", Leaf.OTHER)
    assert split("emb_params") == ("emb_params", Leaf.OTHER)


@pytest.mark.parametrize(
    "name",
    [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k",
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q",
        "lora_te_text_model_encoder_layers_0_self_attn_k_proj",
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_out_0",
        "double_blocks.0.img_attn.qkv",
    ],
)
def test_other_weights_are_not_keys_or_values_of_cross_attention(name):
    assert not is_keys_or_values(name)
