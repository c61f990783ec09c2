"""Rules of single-file checkpoints: they are the folders that they were made of."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from original_files import (
    original_clip,
    original_open_clip,
    original_unet,
    original_vae,
    write_single_file,
)

from cnsctl.bases import base_folder, original_shapes, registry
from cnsctl.bases.single_file import CONFIGS, open_single_file, write_configuration
from cnsctl.errors import BaseModelError
from cnsctl.settings import Prediction

pytestmark = pytest.mark.slow

VERSIONS = ("sd15", "sd21", "sdxl")


@pytest.fixture(scope="module")
def both(single):
    return {version: single(version) for version in VERSIONS}


def opened(file, folder, prediction=None):
    write_configuration(open_single_file(file), folder, prediction=prediction)
    return base_folder.open_folder(folder, single_file=file)


def load(folder):
    return registry.load(folder, device=torch.device("cpu"), dtype=torch.float32)


def image(base):
    from cnsctl.data.prompt_grammar import parse
    from cnsctl.engine.generate import Request, generate_images
    from cnsctl.engine.overlay import EMPTY

    settings = replace(base.generate_defaults, steps=2, width=32, height=32)
    ((_, pixels),) = generate_images(base, EMPTY, [Request(prompt=parse("a photo of a dog", ()), seed=3)], settings)
    return pixels


@pytest.mark.parametrize("version", VERSIONS)
def test_a_single_file_generates_the_images_of_its_folder_to_the_bit(both, tmp_path, version):
    folder, file = both[version]
    of_folder, of_file = load(base_folder.open_folder(folder)), load(opened(file, tmp_path))
    assert of_file.fingerprint == of_folder.fingerprint
    np.testing.assert_array_equal(image(of_file), image(of_folder))


def test_the_weights_of_a_single_file_keep_its_precision(both, tmp_path):
    from cnsctl.bases.parts import loading_parts
    from cnsctl.events import result_of

    parts = result_of(loading_parts(opened(both["sd15"][1], tmp_path)))
    assert {p.dtype for p in parts["unet"].parameters()} == {torch.float16}
    assert not any(p.requires_grad or p.is_meta for p in parts["unet"].parameters())


@pytest.mark.parametrize(
    ("version", "weights"), [("sd15", 859_520_964), ("sd21", 865_910_724), ("sdxl", 2_567_463_684)]
)
def test_the_published_configurations_follow_from_the_shapes_of_their_weights(version, weights):
    """At full size, without weights: the shapes under the original names give the configuration back."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with init_empty_weights(include_buffers=True):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(CONFIGS / version / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(CONFIGS / version / "vae"))
    assert sum(p.numel() for p in unet.parameters()) == weights
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    shapes = shapes_of(original_unet(unet.state_dict(), 2), "model.diffusion_model.")
    published = read(CONFIGS / version / "unet")
    found = original_shapes.unet_config(published, shapes)
    if version == "sdxl":
        found = original_shapes.with_time_ids(found, shapes, pooled=1280)
    assert found == published
    published = read(CONFIGS / version / "vae")
    assert (
        original_shapes.vae_config(published, shapes_of(original_vae(vae.state_dict(), 4), "first_stage_model."))
        == published
    )


@pytest.mark.parametrize(
    ("version", "part"), [("sd15", "text_encoder"), ("sd21", "text_encoder"), ("sdxl", "text_encoder_2")]
)
def test_the_published_text_encoders_follow_from_the_shapes_of_their_weights(version, part):
    from accelerate import init_empty_weights
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    published = read(CONFIGS / version / part)
    kind = CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel
    with init_empty_weights(include_buffers=True):
        weights = kind(CLIPTextConfig(**published)).state_dict()
    if published["hidden_act"] == "gelu":
        found = original_shapes.open_clip_config(
            published, shapes_of(original_open_clip(weights, ""), ""), layers_left_out=0
        )
    else:
        found = original_shapes.clip_config(published, shapes_of(original_clip(weights, ""), "text_model."))
    assert found == published


def shapes_of(weights, prefix):
    return {name.removeprefix(prefix): tuple(tensor.shape) for name, tensor in weights.items()}


def read(folder):
    return json.loads((folder / "config.json").read_text())


def test_the_vocabulary_is_clips(both):
    """Ids that CLIP's own tokenizer gives; SD 2.x and the second encoder of SDXL pad with `!`."""
    from transformers import CLIPTokenizer

    one, two = (CLIPTokenizer.from_pretrained(both["sdxl"][0] / name) for name in ("tokenizer", "tokenizer_2"))
    assert len(one) == 49_408
    assert one("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (
        one("it's ÄÖ 12!", add_special_tokens=False).input_ids
        == one("It's äö  12!", add_special_tokens=False).input_ids
    )
    assert (one.pad_token_id, two.pad_token_id) == (49407, 0)


@pytest.mark.parametrize(
    ("version", "marks", "said", "found"),
    [
        ("sd15", (), None, ("epsilon", False)),
        ("sd21", (), None, ("v_prediction", False)),
        ("sd21", (), Prediction.EPSILON, ("epsilon", False)),
        ("sdxl", (), None, ("epsilon", False)),
        ("sdxl", ("v_pred",), None, ("v_prediction", False)),
        ("sdxl", ("v_pred", "ztsnr"), None, ("v_prediction", True)),
        ("sdxl", ("v_pred",), Prediction.EPSILON, ("epsilon", False)),
    ],
)
def test_the_parameterization_is_that_of_the_marks_of_the_version_or_of_the_user(
    both, tmp_path, version, marks, said, found
):
    file = replace(open_single_file(both[version][1]), marks_v="v_pred" in marks, marks_zero_snr="ztsnr" in marks)
    write_configuration(file, tmp_path, prediction=said)
    parameterization = base_folder.open_folder(tmp_path, single_file=file.path).parameterization
    assert (parameterization.prediction, parameterization.zero_snr) == found


def test_the_marks_are_keys_of_the_file(both, tmp_path):
    found = open_single_file(write_single_file(both["sd15"][0], tmp_path / "x.safetensors", "v_pred", "ztsnr"))
    assert found.marks_v and found.marks_zero_snr
    plain = open_single_file(both["sd15"][1])
    assert not plain.marks_v and not plain.marks_zero_snr


def test_sd2_at_512_pixels_is_the_epsilon_version(both, tmp_path):
    v, epsilon = (opened(both["sd21"][1], tmp_path / p.value, p) for p in (Prediction.V, Prediction.EPSILON))
    assert (v.size, epsilon.size) == (96 * 2, 64 * 2)  # latents of two pixels


def rewritten(file, target, change):
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    change(tensors)
    save_file(tensors, target)
    return target


def without(prefix):
    return lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith(prefix)]


def in_fp8(tensors):
    name = "model.diffusion_model.out.2.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)


def renamed(old, new):
    return lambda tensors: tensors.update({new: tensors.pop(old)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_fp8, "weights in F8_E4M3"),
        (without("first_stage_model."), "contains no vae"),
        (without("cond_stage_model."), "is a UNet alone"),
        (without("model.diffusion_model."), "not a base model"),
        (without("model.diffusion_model.out.2.weight"), "do not have the shapes"),
        (without("model.diffusion_model.time_embed.0.bias"), "weights of unet are missing"),
        (without("first_stage_model.decoder.conv_out.bias"), "weights of vae are missing"),
        (
            without("cond_stage_model.transformer.text_model.final_layer_norm.bias"),
            "weights of text_encoder are missing",
        ),
    ],
)
def test_a_file_that_is_not_a_whole_base_model_is_refused_by_what_is_missing(both, tmp_path, change, message):
    file = rewritten(both["sd15"][1], tmp_path / "x.safetensors", change)
    with pytest.raises(BaseModelError, match=message):
        load(opened(file, tmp_path / "folder"))


@pytest.mark.parametrize("content", [b"", b"x" * 64, (2).to_bytes(8, "little") + b"[]", b"version https://git-lfs.git"])
def test_a_damaged_header_is_one_clear_error(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(BaseModelError, match="cannot read|LFS"):
        open_single_file(tmp_path / "x.safetensors")


def test_reading_the_header_loads_no_library(both):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from cnsctl.bases.single_file import open_single_file\n"
        "open_single_file(Path(sys.argv[1]))\n"
        "print(*{'torch', 'numpy', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, both["sdxl"][1]], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
