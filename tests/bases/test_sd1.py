"""Rules of loading, and facts about pocket."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from cnsctl.bases import base_folder, devices, hashing, part_files, parts, registry
from cnsctl.bases.clip_text import fingerprint
from cnsctl.bases.clip_tokenizer import added_tokens, unknown_words
from cnsctl.bases.facts import facts, pocket_facts
from cnsctl.bases.sd1.family import SD1
from cnsctl.errors import BaseModelError, CnsctlError, StoreDamagedError, UsageError
from cnsctl.events import result_of
from cnsctl.settings import Sampler


def load(folder, dtype=torch.float32):
    return registry.load(base_folder.open_folder(folder), device=torch.device("cpu"), dtype=dtype)


def test_the_packages_facts_about_pocket_are_true():
    assert facts(base_folder.POCKET, with_files=True) == pocket_facts()


def test_pockets_sites_are_those_of_its_card(pocket):
    assert len(pocket.sites) == 20
    assert sum(W.numel() for W in pocket.sites.values()) == 966_656
    assert pocket.size == 128


def test_a_changed_byte_of_a_base_model_is_found(tmp_path, tiny_folder):
    copy = tmp_path / "base"
    shutil.copytree(tiny_folder, copy)
    hashes = result_of(hashing.hashing_files(copy, base_folder.open_folder(copy).files()))
    result_of(hashing.checking_files(copy, hashes))
    file = copy / "unet" / "config.json"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(StoreDamagedError, match="unet/config.json"):
        result_of(hashing.checking_files(copy, hashes))
    file.unlink()
    with pytest.raises(BaseModelError, match="file of the base model not found"):
        result_of(hashing.checking_files(copy, hashes))


def test_fp16_and_fp32_copies_of_one_base_model_have_one_fingerprint(tmp_path, tiny_folder, tiny):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        tiny_folder, safety_checker=None, requires_safety_checker=False, torch_dtype=torch.float16
    )
    pipe.save_pretrained(tmp_path / "half")
    assert load(tmp_path / "half").fingerprint == tiny.fingerprint


def test_the_fingerprint_does_not_depend_on_a_librarys_names(tiny, monkeypatch):
    """transformers 5.0 puts `text_model.` before the names of a text encoder's weights; later versions do not."""
    named = [
        (f"text_model.{n.removeprefix('text_model.')}", p)
        for n, p in tiny.components.texts.modules[0].named_parameters()
    ]
    monkeypatch.setattr(tiny.components.texts.modules[0], "named_parameters", lambda: iter(named))
    found = result_of(fingerprint("sd1", tiny.components.texts.encoders, tiny.sites))
    assert found == tiny.fingerprint


def test_latents_with_nan_are_an_error(tiny):
    from dataclasses import replace

    from cnsctl.data.prompt_grammar import parse
    from cnsctl.engine.generate import Request, generate_images
    from cnsctl.engine.overlay import EMPTY

    settings = replace(tiny.generate_defaults, sampler=Sampler.EULER, steps=3, guidance_scale=float("inf"))
    with pytest.raises(CnsctlError, match="NaN or Inf .sampler euler, 3 steps, guidance scale inf"):
        list(generate_images(tiny, EMPTY, [Request(prompt=parse("a dog", ()), seed=0)], settings))


def test_other_weights_have_another_fingerprint(tiny, tiny_v):
    assert tiny.fingerprint != tiny_v.fingerprint


def test_v_and_epsilon_targets_follow_their_definitions(tiny, tiny_v):
    z, noise = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    t = torch.tensor([100, 900])
    for base in (tiny, tiny_v):
        alpha = base.schedule.alphas[t][:, None, None, None]
        noisy, target = base.noised(z, noise, t)
        assert torch.allclose(noisy, alpha.sqrt() * z + (1 - alpha).sqrt() * noise)
        v = alpha.sqrt() * noise - (1 - alpha).sqrt() * z
        assert torch.allclose(target, noise if base.schedule.prediction == "epsilon" else v)
        scheduler = DDPMScheduler.from_config(base.components.scheduler.config)  # with the base model's own schedule
        assert torch.allclose(noisy, scheduler.add_noise(z, noise, t), atol=1e-5)


def test_pockets_decoder_reconstructs_images(pocket):
    from PIL import Image
    from tiny import EXAMPLES

    from cnsctl.metrics.forgetting import psnr

    pixels = np.asarray(Image.open(EXAMPLES / "dog" / "01.png").convert("RGB"))
    latents = pocket.encode_images(pixels[None])
    assert latents.shape == (1, 8, 16, 16)
    with torch.no_grad():
        x = pocket.components.vae.decode(
            latents.to(pocket.device) / pocket.components.vae.config.scaling_factor
        ).sample[0]
    back = ((x.permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().cpu().numpy().astype(np.uint8)
    assert psnr(back, pixels) > 22


LFS_POINTER = b"version https://git-lfs.github.com/settings/v1\noid sha256:4d7a\nsize 492265168\n"
"""The file that a clone without git-lfs contains instead of weights."""


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: shutil.rmtree(f), "base model not found"),
        (lambda f: (f / "model_index.json").unlink(), "model_index.json not found"),
        (lambda f: (f / "model_index.json").write_text("{"), "cannot read"),
        (lambda f: (f / "model_index.json").write_text('{"_class_name": "FluxPipeline"}'), "is a FluxPipeline"),
        (lambda f: shutil.rmtree(f / "unet"), "unet/ is missing in"),
        (lambda f: next((f / "vae").glob("*.safetensors")).write_bytes(b"x" * 99), "cannot load"),
        (lambda f: next((f / "text_encoder").glob("*.safetensors")).write_bytes(LFS_POINTER), "a Git LFS pointer"),
        (lambda f: (f / "cnsctl.json").write_text('{"train": 3}'), '"train" must be an object'),
        (lambda f: (f / "cnsctl.json").write_text('{"train": {"lr": 1e-4}}'), "train: unknown setting 'lr'"),
        (
            lambda f: (f / "cnsctl.json").write_text('{"train": {"steps": "250"}}'),
            "train: steps is out of range: '250'",
        ),
        (lambda f: (f / "cnsctl.json").write_text('{"train": {"budget": 5.8}}'), "train: budget is out of range: 5.8"),
        (
            lambda f: (f / "cnsctl.json").write_text('{"generate": {"steps": 2.5}}'),
            "generate: steps is out of range: 2.5",
        ),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_refused_with_the_reason(tmp_path, tiny_folder, break_it, message):
    copy = tmp_path / "base"
    shutil.copytree(tiny_folder, copy)
    break_it(copy)
    with pytest.raises(BaseModelError, match=message):
        load(copy)


def test_a_base_model_brings_its_own_defaults_and_other_folders_get_the_familys(tmp_path, tiny_folder):
    copy = tmp_path / "base"
    shutil.copytree(tiny_folder, copy)
    assert base_folder.open_folder(copy).train["steps"] == 10
    (copy / "cnsctl.json").unlink()
    assert base_folder.open_folder(copy).train == SD1.train
    assert load(copy).generate_defaults.guidance_scale == 7.5


def test_a_folder_contains_its_resolution_without_loading_a_weight(tmp_path, tiny_folder):
    copy = tmp_path / "base"
    shutil.copytree(tiny_folder, copy)
    assert base_folder.open_folder(base_folder.POCKET).size == 128
    assert base_folder.open_folder(copy).size == 32  # 16 latents of 2 pixels
    (copy / "cnsctl.json").write_text('{"generate": {"width": 64, "height": 64}}')
    assert base_folder.open_folder(copy).size == 64
    (copy / "cnsctl.json").unlink()
    config = json.loads((copy / "unet" / "config.json").read_text())
    (copy / "unet" / "config.json").write_text(json.dumps({**config, "sample_size": None}))
    assert base_folder.open_folder(copy).size == 32  # the decoder's own


def test_words_that_are_one_token_are_found_without_a_library(tmp_path):
    assert unknown_words(base_folder.POCKET, "dog") == []
    assert unknown_words(base_folder.POCKET, "top hat") == []
    assert unknown_words(base_folder.POCKET, "zorblax dog") == ["zorblax"]
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").write_text(json.dumps({"dog</w>": 1, "do": 2}))
    assert unknown_words(tmp_path, "Dog do") == ["do"]
    with pytest.raises(BaseModelError, match="cannot read .*nowhere"):
        unknown_words(tmp_path / "nowhere", "dog")
    (tmp_path / "tokenizer" / "vocab.json").unlink()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(BaseModelError, match="cannot read the vocabulary"):
        unknown_words(tmp_path, "dog")


def test_added_tokens_are_read_from_every_form_of_a_tokenizers_files(tmp_path):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    assert added_tokens(tmp_path) == frozenset()
    end = {"content": "<|endoftext|>", "special": True}
    (folder / "added_tokens.json").write_text(json.dumps({"<a>": 1}))
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"content": "<b>"}, end]}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": {"2": {"content": "<c>"}, "3": end}})
    )
    assert added_tokens(tmp_path) == {"<a>", "<b>", "<c>"}
    for broken in ("{", "[1]", '{"added_tokens": [1]}', '{"added_tokens": [{}]}'):
        (folder / "tokenizer.json").write_text(broken)
        with pytest.raises(BaseModelError, match="cannot read the vocabulary"):
            added_tokens(tmp_path)


def test_missing_devices_are_refused():
    assert devices.choose("cpu", "auto") == (torch.device("cpu"), torch.float32)
    assert devices.choose("cpu", "bf16")[1] is torch.bfloat16
    for device, dtype in (("tpu", "auto"), ("cpu", "fp8"), ("cpu", "fp16")):
        with pytest.raises(UsageError):
            devices.choose(device, dtype)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="device not available: cuda"):
            devices.choose("cuda")


def test_a_missing_weight_is_refused_and_not_initialized(tmp_path, tiny_folder):
    from safetensors.torch import load_file, save_file

    for part in ("text_encoder", "unet", "vae"):
        copy = shutil.copytree(tiny_folder, tmp_path / part)
        (file,) = (copy / part).glob("*.safetensors")
        tensors = load_file(file)
        tensors.pop(sorted(tensors)[len(tensors) // 2])
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(BaseModelError, match="cannot load"):
            load(copy)


def test_other_layouts_of_a_folder_give_the_same_fingerprint(tmp_path, tiny_folder, tiny):
    """vocab.json and merges.txt instead of tokenizer.json, and weights as an fp16 variant alone."""
    copy = shutil.copytree(tiny_folder, tmp_path / "base")
    tokenizer = json.loads((copy / "tokenizer" / "tokenizer.json").read_text())
    (copy / "tokenizer" / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    pairs = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    (copy / "tokenizer" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n")
    (copy / "tokenizer" / "tokenizer.json").unlink()
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        (copy / part / f"{stem}.safetensors").rename(copy / part / f"{stem}.fp16.safetensors")
    assert load(copy).fingerprint == tiny.fingerprint


def edit(folder, file: str, **changes) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("unet/config.json", {"time_cond_proj_dim": 64}, "base"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts 'sample'"),
        ("scheduler/scheduler_config.json", {"beta_start": None, "_class_name": "Nonsense"}, "is a Nonsense"),
    ],
)
def test_denoisers_that_need_or_predict_something_else_are_refused(tmp_path, tiny_folder, file, changes, message):
    copy = shutil.copytree(tiny_folder, tmp_path / "base")
    edit(copy, file, **changes)
    if "_class_name" in changes:
        edit(copy, "model_index.json", scheduler=["diffusers", changes["_class_name"]])
    with pytest.raises(BaseModelError, match=message):
        load(copy)


def test_the_scheduler_of_stable_diffusion_1_takes_one_step_more_and_reports_it(tmp_path, tiny_folder):
    from dataclasses import replace

    from cnsctl.concept import Prompt
    from cnsctl.engine.generate import Request, Texts, generation
    from cnsctl.engine.overlay import EMPTY
    from cnsctl.events import Denoised

    copy = shutil.copytree(tiny_folder, tmp_path / "base")
    edit(copy, "scheduler/scheduler_config.json", _class_name="PNDMScheduler", skip_prk_steps=True)
    edit(copy, "model_index.json", scheduler=["diffusers", "PNDMScheduler"])
    base = load(copy)
    asked = Request(prompt=Prompt(text="a dog", pieces=("a dog",)), seed=1)
    settings = replace(base.generate_defaults, steps=4)
    *steps, _image = generation(Texts(base, settings), EMPTY, [asked], settings)
    assert steps == [Denoised(step=i + 1, total=5) for i in range(5)]


def halved(folder, copy):
    """A copy of a base model with all weights in fp16."""
    from diffusers import StableDiffusionPipeline

    options = {"safety_checker": None, "requires_safety_checker": False, "torch_dtype": torch.float16}
    StableDiffusionPipeline.from_pretrained(folder, **options).save_pretrained(copy)
    return copy


@pytest.mark.parametrize("stored", ["fp32", "fp16"])
def test_hashes_and_sites_do_not_depend_on_the_computing_dtype(tmp_path, tiny_folder, stored):
    """W₀ has the file's values also if the denoiser computes in bf16; its other weights are rounded."""
    folder = tiny_folder if stored == "fp32" else halved(tiny_folder, tmp_path / "half")
    full, short = (
        registry.load(base_folder.open_folder(folder), device=torch.device("cpu"), dtype=dtype, hash_weights=True)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert (full.fingerprint, full.part_hashes) == (short.fingerprint, short.part_hashes)
    assert all(W.dtype is torch.float32 and torch.equal(W, short.sites[site]) for site, W in full.sites.items())
    weights = dict(full.components.denoiser.named_parameters())
    assert all(torch.equal(p, weights[n].bfloat16()) for n, p in short.components.denoiser.named_parameters())
    assert (
        {p.dtype for p in short.components.texts.modules[0].parameters()}
        == {p.dtype for p in short.components.vae.parameters()}
        == {torch.float32}
    )


def stored_dtype(folder):
    (unet,) = (part for part in SD1.parts if part.name == "unet")
    return parts.stored_dtype(part_files.weights_of(folder, unet))


def test_a_denoiser_is_read_in_its_stored_precision(tmp_path, tiny_folder):
    from safetensors.torch import load_file, save_file

    half = halved(tiny_folder, tmp_path / "half")
    assert stored_dtype(tiny_folder) is torch.float32
    assert stored_dtype(half) is torch.float16
    (file,) = (half / "unet").glob("*.safetensors")
    tensors = load_file(file)
    tensors["conv_in.weight"] = tensors["conv_in.weight"].float()  # one fp32 weight: it must not be rounded
    save_file(tensors, file, metadata={"format": "pt"})
    assert stored_dtype(half) is torch.float32


def test_a_stamp_changes_with_every_write_to_a_file_and_with_a_links_target(tmp_path, tiny_folder):
    import os
    import time

    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    names = base_folder.open_folder(folder).files()
    assert {name.split("/")[0] for name in names} == {*(p.name for p in SD1.parts), "model_index.json", "cnsctl.json"}
    (file,) = (folder / "unet").glob("*.safetensors")
    before, times = hashing.stamps(folder, names), file.stat()
    data = file.read_bytes()
    time.sleep(0.05)  # longer than a tick of the file system's clock
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if the file had not been written to
    changed = hashing.stamps(folder, names)
    assert [name for name in names if changed[name] != before[name]] == [file.relative_to(folder).as_posix()]
    file.rename(tmp_path / "moved")
    file.symlink_to(tmp_path / "moved")
    assert hashing.stamps(folder, names) != changed


@pytest.mark.parametrize(
    ("kv_weights", "denoiser_weights", "budget"),
    [(19_169_280, 859_520_964, 0.0583), (25_559_040, 865_910_724, 0.044), (340_787_200, 2_567_463_684, 0.0098)],
    ids=["SD 1.5", "SD 2.1", "SDXL"],
)
def test_without_settings_the_budget_is_the_papers_share_of_the_denoiser(kv_weights, denoiser_weights, budget):
    from cnsctl.bases.base_folder import default_budget

    assert default_budget(kv_weights=kv_weights, denoiser_weights=denoiser_weights) == budget
    assert default_budget(kv_weights=10, denoiser_weights=10_000) == 1


def test_a_folder_without_settings_has_the_budget_of_its_own_sizes(tiny_folder, tmp_path):
    import shutil

    copy = shutil.copytree(tiny_folder, tmp_path / "plain")
    (copy / "cnsctl.json").unlink()
    base = registry.load(base_folder.open_folder(copy), device=torch.device("cpu"), dtype=torch.float32)
    kv_weights = sum(W.numel() for W in base.sites.values())
    assert base.train_defaults["budget"] == pytest.approx(0.0013 * base.denoiser_weights / kv_weights, abs=1e-4)
