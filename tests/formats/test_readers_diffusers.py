"""diffusers and peft read what is exported: K, V and images are those of `prompt` mode."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from synthetic_stores import make_store
from tiny import make_base, make_sdxl

from cnsctl import open_store
from cnsctl.metrics.forgetting import psnr

pytestmark = pytest.mark.slow

BASES = {
    "sd1": make_base,
    "sd2": lambda path: make_base(path, prediction="v_prediction", width=32, linear_projection=True, seed=4),
    "sdxl": make_sdxl,
}
EXACT = 2e-3
"""How far K and V may be from ours, relative to their size: fp16 of the difference."""

VECTORS = {"sd1": 1, "sd2": 3, "sdxl": 2}
STEPS = {"num_inference_steps": 3, "guidance_scale": 1.0}


@pytest.fixture(scope="module", params=BASES)
def store(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    base = BASES[request.param](folder / "base")
    make_store(folder / "store", base, vectors=VECTORS[request.param], dog="dog")
    return open_store(folder / "store")


@pytest.fixture(scope="module")
def ours(store):
    """The image of prompt mode, and the K and V of its prompt."""
    from cnsctl.data.prompt_grammar import parse
    from cnsctl.engine.overlay import text_keys_values

    with store.load(dtype="fp32") as session:
        image = np.asarray(session.generate("a <dog> on a beach", seed=7, guidance_scale=1.0, steps=3))
        loaded = session._open()
        overlay = loaded.overlay(["dog"])
        prompt = parse("a <dog> on a beach", ["dog"])
        _, kv = text_keys_values(loaded.base, overlay, overlay.splice(loaded.base, prompt))
        yield image, {site: value.clone() for site, value in kv.items()}


@pytest.fixture
def pipe(store):
    return loaded_pipe(store.base().place)


def loaded_pipe(folder):
    from diffusers import DiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run_lines(result, pipe=None):
    """Run the lines that the export printed for diffusers."""
    from diffusers import DiffusionPipeline

    (lines,) = (use.type for use in result.use if use.tool == "diffusers")
    names = {"pipe": pipe, "load_file": load_file, "DiffusionPipeline": DiffusionPipeline}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(lines, "the printed lines", "exec"), names)  # noqa: S102  our own
    names["pipe"].set_progress_bar_config(disable=True)
    assert names["prompt"] == "<dog> dog on a beach"
    return names["pipe"]


def image_of(pipe, prompt="a <dog> dog on a beach"):
    generator = torch.Generator().manual_seed(7)
    found = pipe(prompt, generator=generator, height=32, width=32, **STEPS)
    return np.asarray(found.images[0])


def keys_values(pipe, prompt="a <dog> dog on a beach"):
    """K and V of every cross-attention layer, as the stock pipeline computes them with whatever is loaded."""
    found, hooks = {}, []
    for name, module in pipe.unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            hooks.append(module.register_forward_hook(partial(_keep, found, name)))
    image_of(pipe, prompt)
    for hook in hooks:
        hook.remove()
    return found


def _keep(found, name, _module, _inputs, out):
    found.setdefault(name, out.detach().clone())


def exported(store, folder, form, **settings):
    return store.export("dog", format=form, output=folder, measure=False, **settings)


def assert_same(found, wanted, tolerance):
    assert found.keys() == wanted.keys()
    for site, value in wanted.items():
        assert (found[site] - value).norm() <= tolerance * value.norm(), site


def test_a_whole_difference_as_lora_gives_the_keys_values_and_image_of_prompt_mode(
    request, store, ours, pipe, tmp_path
):
    keys = "diffusers" if request.node.callspec.params["store"] == "sd2" else "kohya"
    without = image_of(pipe, "a dog on a beach")
    run_lines(exported(store, tmp_path, "lora-exact", keys=keys), pipe)
    assert_same(keys_values(pipe), ours[1], EXACT)
    assert psnr(image_of(pipe), ours[0]) >= 40
    assert psnr(without, ours[0]) < psnr(image_of(pipe), ours[0]) - 10, (
        "the concept does nothing: the comparison proves nothing"
    )


def test_a_fitted_lora_changes_keys_and_values_by_its_factors(request, store, pipe, tmp_path):
    """diffusers computes W + up · down with a scale of 1, whatever the alpha in the file."""
    from cnsctl.formats import lora
    from cnsctl.formats.tensor_file import open_file

    keys = "kohya" if request.node.callspec.params["store"] == "sd2" else "diffusers"
    result = exported(store, tmp_path, "lora", keys=keys, rank=3)
    before = {n: W.detach().clone() for n, W in pipe.unet.state_dict().items() if ".attn2.to_" in n}
    run_lines(result, pipe).fuse_lora()
    after = {n.replace("base_layer.", ""): W for n, W in pipe.unet.state_dict().items()}
    shapes = store._folder.base.sites
    with open_file(tmp_path / "dog.safetensors") as file:
        for site, read in lora.read(file, shapes).weights.items():
            change = after[f"{site}.weight"] - before[f"{site}.weight"]
            wanted = torch.from_numpy(read())
            assert wanted.norm() > 0
            assert (change - wanted).norm() <= 1e-3 * wanted.norm(), site


def test_whole_weights_are_read_by_load_state_dict(store, ours, pipe, tmp_path):
    result = exported(store, tmp_path, "kv")
    assert not set(load_file(result.files[0].path)) - set(pipe.unet.state_dict())
    run_lines(result, pipe)
    assert_same(keys_values(pipe), ours[1], 1e-5)
    assert psnr(image_of(pipe), ours[0]) >= 40


def test_custom_diffusion_is_read_by_load_attn_procs(store, ours, pipe, tmp_path):
    run_lines(exported(store, tmp_path, "custom-diffusion"), pipe)
    assert psnr(image_of(pipe), ours[0]) >= 40


def test_an_embedding_is_read_by_load_textual_inversion(store, pipe, tmp_path):
    run_lines(exported(store, tmp_path, "embedding"), pipe)
    delta = store._folder.delta(store._folder.concept("dog"))
    for encoder, table in delta.vectors.items():
        tokenizer = getattr(pipe, encoder.replace("text_encoder", "tokenizer"))
        ids = tokenizer.convert_tokens_to_ids([f"<dog>_{i}" if i else "<dog>" for i in range(len(table))])
        rows = getattr(pipe, encoder).get_input_embeddings().weight[ids]
        np.testing.assert_array_equal(rows.detach().numpy(), table.astype(np.float32))


def test_a_checkpoint_is_read_by_from_pretrained(store, ours, tmp_path):
    pipe = run_lines(exported(store, tmp_path, "checkpoint"))
    assert_same(keys_values(pipe), ours[1], 1e-5)
    assert psnr(image_of(pipe), ours[0]) >= 50


def test_the_pooled_text_is_read_at_the_end_of_the_text(tmp_path):
    """Old configurations of CLIP read it at the largest token id, which a new token would be."""
    import json

    base = make_sdxl(tmp_path / "base")
    config = base / "text_encoder_2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": 2}))
    make_store(tmp_path / "store", base, dog="dog")
    store = open_store(tmp_path / "store")
    with store.load(dtype="fp32") as session:
        ours = np.asarray(session.generate("a <dog> on a beach", seed=7, guidance_scale=1.0, steps=3))
    assert psnr(image_of(run_lines(exported(store, tmp_path / "out", "checkpoint"))), ours) >= 50
    lines = exported(store, tmp_path / "files", "kv")
    assert psnr(image_of(run_lines(lines, loaded_pipe(base))), ours) >= 40
