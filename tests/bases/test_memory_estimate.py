"""Rules of the estimate of memory."""

from __future__ import annotations

from itertools import pairwise

import pytest
import tiny as tiny_models
import torch

from cnsctl.bases import base_folder, memory_estimate, tensor_bytes
from cnsctl.errors import BaseModelError


@pytest.fixture(scope="module")
def sdxl_folder(tmp_path_factory):
    return tiny_models.make_sdxl(tmp_path_factory.mktemp("bases") / "sdxl")


@pytest.fixture(scope="module")
def pixart_folder(tmp_path_factory):
    return tiny_models.make_pixart(tmp_path_factory.mktemp("bases") / "pixart")


@pytest.fixture(scope="module")
def estimate(tiny_folder):
    return memory_estimate.estimate(base_folder.open_folder(tiny_folder), dtype="fp32")


def test_each_setting_needs_less_than_the_default_and_never_more_than_the_one_before(estimate):
    assert [row.memory for row in estimate.memory] == list(memory_estimate.PLANS)
    default, *others = estimate.memory
    for less in others:
        assert default.add > less.add
        assert default.add_one > less.add_one
        assert default.gen > less.gen
    for more, less in pairwise(others):
        assert (more.add, more.add_one, more.gen) >= (less.add, less.add_one, less.gen)


def test_the_weights_are_those_of_the_loaded_base_model(estimate, tiny):
    sizes = {part.part: part for part in estimate.parts}
    assert sizes["unet"].weights == tiny.denoiser_weights
    assert sizes["unet"].bytes == 4 * tiny.denoiser_weights
    assert all(row.gen > sizes["vae"].bytes for row in estimate.memory)


def test_the_batch_multiplies_the_activations_alone(estimate):
    """Two images of a batch: activations twice, weights once."""
    assert estimate.batch_size == 2
    auto = estimate.memory[0]
    weights = sum(part.bytes for part in estimate.parts)
    assert weights < auto.add_one < auto.add < 2 * auto.add_one


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sdxl", "pixart"])
def test_every_family_can_be_followed(family, sdxl_folder, pixart_folder):
    """PixArt is a transformer with a T5 text encoder: its own calls are followed, not a UNet's."""
    found = memory_estimate.estimate(
        base_folder.open_folder({"sdxl": sdxl_folder, "pixart": pixart_folder}[family]), dtype="fp32"
    )
    assert all(row.add > row.add_one > memory_estimate.FIXED for row in found.memory)


def test_the_text_encoders_part_grows_with_their_depth(pixart_folder, tmp_path):
    import json
    import shutil

    copy = shutil.copytree(pixart_folder, tmp_path / "base")
    file = copy / "text_encoder" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_layers": 22}))
    two, many = (memory_estimate._Followed(base_folder.open_folder(f))._peak("text") for f in (pixart_folder, copy))
    assert many > 2 * two


def test_tensors_are_counted_from_their_creation_to_their_end():
    layer = torch.nn.Linear(4, 4, device="meta")
    x = torch.zeros(8, 4, device="meta")  # made before: not counted, as the weights

    def run():
        for _ in range(3):
            y = layer(x)  # 8 × 4 numbers of 4 bytes; the one before ends when this one is there
        del y

    assert tensor_bytes.peak(run, layer) == 2 * 8 * 4 * 4


def test_the_count_on_the_meta_device_is_that_of_real_tensors():
    """The same operations, once with memory: the counter sees the same blocks."""
    peaks = []
    for device in ("meta", "cpu"):
        layers = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.GELU(), torch.nn.Linear(64, 1)).to(device)
        x = torch.zeros(32, 16, device=device, requires_grad=True)
        peaks.append(tensor_bytes.peak(lambda layers=layers, x=x: layers(x).mean().backward(), layers))
    assert peaks[0] == peaks[1] > 0


def test_attention_keeps_no_matrix_of_all_positions_and_the_function_is_restored():
    import torch.nn.functional as F

    stock = F.scaled_dot_product_attention
    q = torch.zeros(1, 1, 4096, 8, device="meta", requires_grad=True)
    found = tensor_bytes.peak(lambda: F.scaled_dot_product_attention(q, q, q).sum().backward(), torch.nn.Identity())
    assert found < 4096 * 4096
    assert F.scaled_dot_product_attention is stock


def test_what_cannot_be_followed_is_one_clear_error(tmp_path, tiny_folder):
    import json
    import shutil

    copy = shutil.copytree(tiny_folder, tmp_path / "base")
    file = copy / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "down_block_types": ["Nonsense"]}))
    with pytest.raises(BaseModelError, match="cannot estimate the memory"):
        memory_estimate.estimate(base_folder.open_folder(copy), dtype="fp32")
