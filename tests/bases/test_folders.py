"""Rules of folders that people have: what loads, what is refused, and with which words."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from cnsctl.bases import base_folder, finite, registry
from cnsctl.bases.base_folder import open_folder
from cnsctl.bases.facts import facts
from cnsctl.bases.part_files import weights_of
from cnsctl.bases.sd1.family import PARTS
from cnsctl.concept import Prompt
from cnsctl.engine.generate import Request, generate_images
from cnsctl.engine.overlay import EMPTY
from cnsctl.errors import BaseModelError

FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
REMOVE = "REMOVE"


@pytest.fixture
def copy(tmp_path, tiny_folder):
    return shutil.copytree(tiny_folder, tmp_path / "base")


def edit(folder, file: str, **changes) -> None:
    path = folder / file
    found = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in found.items() if v != REMOVE}))


def scheduler(folder, kind: str, **changes) -> None:
    edit(folder, "scheduler/scheduler_config.json", _class_name=kind, **changes)
    edit(folder, "model_index.json", scheduler=["diffusers", kind])


def load(folder):
    return registry.load(open_folder(folder), device=torch.device("cpu"), dtype=torch.float32)


def image(base):
    request = Request(prompt=Prompt(text="a dog", pieces=("a dog",)), seed=1)
    ((_, pixels),) = generate_images(base, EMPTY, [request], replace(base.generate_defaults, steps=2))
    return pixels


def refusal(folder) -> BaseModelError:
    with pytest.raises(BaseModelError) as caught:
        facts(folder, with_files=False)
    return caught.value


# -------------------------------------------------------------------- resolution


@pytest.mark.parametrize(
    ("sample_size", "height", "width", "side"),
    [
        (16, 32, 32, 32),
        ([16, 24], 32, 48, 40),
        ([24, 24], 48, 48, 48),
        (19, 40, 40, 40),  # 38 pixels are not a multiple of 8
        (2, 32, 32, 32),  # the smallest image
        (None, 32, 32, 32),  # the decoder's own size
        (REMOVE, 32, 32, 32),
        ("16", 32, 32, 32),
        ([16], 32, 32, 32),
        (0, 32, 32, 32),
        (True, 32, 32, 32),
        (10**9, 32, 32, 32),
    ],
)
def test_every_sample_size_gives_a_valid_resolution(copy, sample_size, height, width, side):
    edit(copy, "unet/config.json", sample_size=sample_size)
    folder = open_folder(copy)
    assert (folder.resolution, folder.size) == ((height, width), side)
    settings = folder.generate_settings()
    assert (settings.height, settings.width) == (height, width)


def test_a_pair_of_sizes_is_the_default_shape_of_images(copy):
    edit(copy, "unet/config.json", sample_size=[16, 24])
    assert image(load(copy)).shape == (32, 48, 3)


def test_a_resolution_that_no_configuration_contains_is_the_familys_and_is_reported(copy):
    edit(copy, "unet/config.json", sample_size=None)
    edit(copy, "vae/config.json", sample_size=None)
    folder = open_folder(copy)
    assert folder.resolution == (512, 512)
    assert folder.notes == ("unet/config.json contains no image size; default: 512 × 512 pixels",)
    (copy / "cnsctl.json").write_text('{"generate": {"width": 64}}')
    assert open_folder(copy).resolution == (64, 64)
    assert open_folder(copy).notes == ()


# -------------------------------------------------------------------- missing and broken files


@pytest.mark.parametrize("part", [part.name for part in PARTS])
def test_a_missing_part_is_named(copy, part):
    shutil.rmtree(copy / part)
    assert refusal(copy).what == f"{part}/ is missing in {copy}"


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "scheduler"])
@pytest.mark.parametrize("content", [None, "[]", "\udcff"])
def test_a_missing_or_broken_configuration_is_named(copy, part, content):
    file = copy / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    if content is None:
        file.unlink()
    else:
        file.write_text(content, errors="surrogateescape")
    assert str(file) in refusal(copy).what


@pytest.mark.parametrize("file", ["tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"model": {}}'])
def test_a_broken_tokenizer_is_an_error(copy, file, content):
    (copy / file).write_text(content)
    with suppress(BaseModelError):  # an empty configuration is enough for some
        load(copy)


def test_a_missing_vocabulary_is_named(copy):
    (copy / "tokenizer/tokenizer.json").unlink()
    assert refusal(copy).what == f"the vocabulary is missing in {copy / 'tokenizer'}"


@pytest.mark.parametrize("part", FILES)
@pytest.mark.parametrize("content", [b"", b"x" * 99], ids=["empty", "other"])
def test_weights_that_are_no_safetensors_file_are_named(copy, part, content):
    (copy / FILES[part]).write_bytes(content)
    assert refusal(copy).what.startswith(f"cannot load {part}/ of {copy} as Stable Diffusion 1.x or 2.x: ")


@pytest.mark.parametrize("part", FILES)
def test_weights_that_are_cut_short_are_named(copy, part):
    file = copy / FILES[part]
    file.write_bytes(file.read_bytes()[:-100])
    assert f"cannot load {part}/" in refusal(copy).what


@pytest.mark.parametrize("file", [*FILES.values(), "unet/config.json", "tokenizer/tokenizer.json"])
def test_a_git_lfs_pointer_is_named_with_the_command_that_gets_the_file(copy, file):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 3438167540\n"
    (copy / file).write_text(pointer)
    err = refusal(copy)
    assert err.what == f"a Git LFS pointer instead of the file: {copy / file}"
    assert err.hint.endswith("lfs pull")


def test_a_configuration_that_does_not_fit_the_weights_is_an_error(copy):
    for part, change in (
        ("unet", {"block_out_channels": [16, 48]}),
        ("vae", {"latent_channels": 8}),
        ("text_encoder", {"hidden_size": 48, "intermediate_size": 80}),
        ("text_encoder", {"num_hidden_layers": 3}),
    ):
        kept = (copy / part / "config.json").read_text()
        edit(copy, f"{part}/config.json", **change)
        assert f"cannot load {part}/ of {copy}" in refusal(copy).what
        (copy / part / "config.json").write_text(kept)


def test_a_bom_before_a_text_is_skipped(copy, tiny):
    for file in copy.rglob("*.json"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    base = load(copy)
    assert base.fingerprint == tiny.fingerprint
    assert base.folder.train["steps"] == 10


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("unet/config.json", {"freq_shift": {}}, "unet/ of {} cannot denoise: "),
        ("unet/config.json", {"mid_block_scale_factor": "x"}, "unet/ of {} cannot denoise: "),
        ("vae/config.json", {"layers_per_block": 0}, "vae/ of {} cannot decode and encode an image: "),
        ("vae/config.json", {"scaling_factor": "x"}, "cannot use {} as "),
        ("vae/config.json", {"scaling_factor": 0}, "vae/ of the base model cannot decode an image: "),
        ("tokenizer/tokenizer_config.json", {"model_max_length": ["a"]}, "{}"),
        ("text_encoder/config.json", {"eos_token_id": None}, "the text encoder of {} cannot read a text: "),
    ],
)
def test_a_folder_that_loads_but_does_not_work_is_refused_at_init(copy, file, change, words):
    edit(copy, file, **change)
    assert words.format(copy) in refusal(copy).what


# -------------------------------------------------------------------- schedulers


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("FlowMatchEulerDiscreteScheduler", {}, "is for flow matching"),
        ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction"}, "is for flow matching"),
        ("DDIMScheduler", {"beta_start": None}, "does not contain a noise schedule"),
        ("DDIMScheduler", {"beta_schedule": "odd"}, "odd"),
        ("DDIMScheduler", {"num_train_timesteps": "many"}, "DDIMScheduler: "),
        ("DDIMScheduler", {"timestep_spacing": "odd"}, "odd"),
        ("NonsenseScheduler", {}, "NonsenseScheduler is not a scheduler of diffusers"),
        ("SchedulerMixin", {}, "is a SchedulerMixin, not a scheduler"),
    ],
)
def test_a_scheduler_that_cannot_be_used_is_refused_with_the_reason(copy, kind, changes, words):
    scheduler(copy, kind, **changes)
    assert words in str(refusal(copy))


def test_a_scheduler_that_needs_another_package_says_which(copy, monkeypatch):
    import diffusers

    class Missing:
        """What diffusers puts in place of a class whose library is not installed."""

        _backends = ("no_such_library",)

    scheduler(copy, "LMSDiscreteScheduler")
    monkeypatch.setattr(diffusers, "LMSDiscreteScheduler", Missing)
    err = refusal(copy)
    assert err.note == "LMSDiscreteScheduler needs no_such_library"
    assert err.hint == "install it: pip install no_such_library"


# -------------------------------------------------------------------- NaN and Inf


@pytest.mark.parametrize("part", FILES)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_part_with_nan_or_inf_is_refused_by_name(copy, part, value):
    tensors = load_file(copy / FILES[part])
    name = sorted(tensors)[3]
    tensors[name].view(-1)[-1] = value
    save_file(tensors, copy / FILES[part], metadata={"format": "pt"})
    assert refusal(copy).what == f"weights of {part}/ contain NaN or Inf: {name}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_one_value_that_is_not_finite_is_found(dtype):
    values = torch.randn(1000).to(dtype)
    assert finite.is_finite(values)
    for odd in (float("nan"), float("inf"), float("-inf")):
        values[500] = odd
        assert not finite.is_finite(values)


def broken(base, layer: str):
    """The base model with one layer of its VAE filled with NaN after loading, as if the file had changed since."""
    with torch.no_grad():
        dict(base.autoencoder.vae.named_parameters())[layer].fill_(float("nan"))
    return base


def test_a_decoder_that_gives_nan_is_an_error_and_not_a_black_image(copy):
    base = broken(load(copy), "decoder.conv_out.weight")
    with pytest.raises(BaseModelError, match="vae/ of the base model cannot decode an image: .*NaN or Inf"):
        image(base)


def test_an_encoder_that_gives_nan_is_an_error(copy):
    import numpy as np

    base = broken(load(copy), "encoder.conv_in.weight")
    with pytest.raises(BaseModelError, match="vae/ of the base model cannot encode an image: .*NaN or Inf"):
        base.encode_images(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_base_model_that_lost_its_decoder_since_init_gives_an_error_and_no_file(tmp_path, copy):
    from commands import cnsctl

    store = tmp_path / "s"
    assert cnsctl("init", "--store", store, "--base", copy, "-q").code == 0
    tensors = load_file(copy / FILES["vae"])
    tensors["decoder.conv_out.weight"][:] = float("nan")
    save_file(tensors, copy / FILES["vae"], metadata={"format": "pt"})
    made = cnsctl("gen", "a dog", "--store", store, "-o", tmp_path / "dog.png")
    assert made.code == 1
    assert "weights of vae/ contain NaN or Inf: decoder.conv_out.weight" in made.err
    assert not (tmp_path / "dog.png").exists()


# -------------------------------------------------------------------- weights in other files


def pickled(folder, part: str) -> None:
    file = folder / FILES[part]
    names = {"text_encoder": "pytorch_model.bin"}
    torch.save(load_file(file), file.with_name(names.get(part, "diffusion_pytorch_model.bin")))
    file.unlink()


@pytest.mark.parametrize("part", FILES)
def test_weights_in_a_pickle_are_refused_with_the_way_to_convert_them(copy, part):
    pickled(copy, part)
    err = refusal(copy)
    assert err.what.startswith(f"the weights of {copy / part} are in a pickle: ")
    assert "pickles are not read" in err.note
    assert f'P.from_pretrained("{copy}").save_pretrained("{copy}-safetensors")' in err.hint


def test_the_advice_about_pickles_works(copy, tiny):
    for part in FILES:
        pickled(copy, part)
    lines = refusal(copy).hint.partition(": ")[2]
    exec(lines, {})  # noqa: S102  the advice that is tested
    assert load(copy.with_name("base-safetensors")).fingerprint == tiny.fingerprint


@pytest.mark.parametrize("variant", ["non_ema", "fp16", "ema"])
def test_a_folder_with_one_variant_of_the_weights_loads_silently(copy, tiny, variant, capfd):
    for file in FILES.values():
        path = copy / file
        path.rename(path.with_name(f"{path.stem}.{variant}.safetensors"))
    assert load(copy).fingerprint == tiny.fingerprint
    assert capfd.readouterr() == ("", "")


def test_of_several_copies_of_the_weights_the_usual_one_is_chosen(copy):
    (unet,) = (part for part in PARTS if part.name == "unet")
    usual = copy / FILES["unet"]
    for variant in ("non_ema", "fp16", "bf16"):
        shutil.copy(usual, usual.with_name(f"{usual.stem}.{variant}.safetensors"))
    assert weights_of(copy, unet).files == (usual,)
    usual.unlink()
    assert weights_of(copy, unet).variant == "fp16"
    usual.with_name(f"{usual.stem}.fp16.safetensors").unlink()
    assert weights_of(copy, unet).variant == "bf16"


def test_sharded_weights_load_and_a_missing_shard_is_named(copy, tiny):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(copy / "unet")
    (copy / FILES["unet"]).unlink()
    unet.save_pretrained(copy / "unet", max_shard_size="200KB")
    shards = sorted((copy / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    assert load(copy).fingerprint == tiny.fingerprint
    assert {shard.relative_to(copy).as_posix() for shard in shards} < set(open_folder(copy).files())
    shards[0].unlink()
    assert refusal(copy).what == f"file of the base model not found: {shards[0]}"


# -------------------------------------------------------------------- what is loaded, and no more


def bytes_in(folder) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_a_copy_contains_what_is_loaded_and_nothing_else(tmp_path, copy, tiny):
    """As published: a safety checker, fp16, non-EMA and pickled duplicates, single files beside the folder."""
    from commands import cnsctl

    edit(copy, "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    needed = bytes_in(copy)
    for file in FILES.values():
        path = copy / file
        for name in (f"{path.stem}.fp16.safetensors", f"{path.stem}.non_ema.safetensors", f"{path.stem}.bin"):
            shutil.copy(path, path.with_name(name))
    for junk in ("safety_checker/model.safetensors", "v1-5-pruned.safetensors", "v1-5.ckpt", ".git/pack", "unet/a\\b"):
        (copy / junk).parent.mkdir(exist_ok=True)
        shutil.copy(copy / FILES["unet"], copy / junk)
    given = bytes_in(copy)
    assert cnsctl("init", "--store", tmp_path / "s", "--base", copy, "--copy", "-q").code == 0
    copied = tmp_path / "s" / "base"
    assert bytes_in(copied) == needed < given / 4
    assert load(copied).fingerprint == tiny.fingerprint


def test_every_file_of_a_copy_is_needed(tmp_path, copy):
    """Without any one of them, loading fails or the base model has other settings."""
    names = open_folder(copy).files()
    optional = {"cnsctl.json", "tokenizer/tokenizer_config.json"}
    for name in set(names) - optional:
        less = shutil.copytree(copy, tmp_path / name.replace("/", "-"))
        (less / name).unlink()
        refusal(less)


# -------------------------------------------------------------------- other pipelines


@pytest.mark.parametrize(
    "kind",
    [
        "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline", "StableDiffusionControlNetPipeline",
        "StableDiffusionPipelineSafe", "StableDiffusionPAGPipeline", "MyOwnPipeline",
    ],
)  # fmt: skip
def test_pipelines_with_the_same_parts_load(copy, tiny, kind):
    edit(copy, "model_index.json", _class_name=kind, controlnet=["diffusers", "ControlNetModel"])
    assert load(copy).fingerprint == tiny.fingerprint


def flux(folder):
    edit(
        folder, "model_index.json", _class_name="FluxPipeline", unet=REMOVE,
        transformer=["diffusers", "FluxTransformer2DModel"],
    )  # fmt: skip


def widened(channels):
    def change(folder):
        edit(folder, "unet/config.json", in_channels=channels)
        edit(folder, "model_index.json", _class_name="StableDiffusionInpaintPipeline")

    return change


def index(**changes):
    return lambda folder: edit(folder, "model_index.json", **changes)


def unet(**changes):
    return lambda folder: edit(folder, "unet/config.json", **changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flux, "text and image share each attention layer"),
        (index(_class_name="StableDiffusion3Pipeline", transformer=["diffusers", "SD3Transformer2DModel"]), "share each"),
        (index(_class_name="WanPipeline", transformer=["diffusers", "WanTransformer3DModel"]), "is not supported yet"),
        (widened(9), "a mask and a masked image beside the latents"),
        (widened(8), "8 channels: an image beside the latents"),
        (widened(7), "enters its denoiser"),
        (unet(time_cond_proj_dim=256), "takes a guidance embedding"),
        (unet(num_class_embeds=1000), "takes a class"),
        (unet(class_embed_type="projection"), "noise level or an image embedding"),
        (unet(addition_embed_type="image"), "an added embedding: image"),
        (unet(addition_embed_type="text_time"), "an added embedding: text_time"),
        (unet(encoder_hid_dim_type="image_proj"), "an image embedding"),
        (index(text_encoder=[None, None], tokenizer=[None, None],
               text_encoder_2=["transformers", "CLIPTextModelWithProjection"]), "refiner completes images"),
        (index(text_encoder=["alt_diffusion", "RobertaSeriesModelWithTransformation"]), "is a RobertaSeries"),
        (index(vae=["diffusers", "AutoencoderTiny"]), "its vae is a AutoencoderTiny, not a AutoencoderKL"),
        (index(unet=["diffusers", "UNet3DConditionModel"]), "its unet is a UNet3DConditionModel"),
        (index(depth_estimator=["transformers", "DPTForDepthEstimation"]), "it needs a part 'depth_estimator'"),
        (index(unet=REMOVE), "it has no part 'unet'"),
    ],
)  # fmt: skip
def test_other_base_models_are_refused_with_the_reason(copy, change, words):
    change(copy)
    err = refusal(copy)
    assert err.what.startswith("unsupported base model")
    assert words in (err.note or "")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": {"_class_name": "ControlNetModel"}}, "is a ControlNet, not a base model"),
        ({"config.json": {"_class_name": "T2IAdapter"}}, "is a T2I-Adapter or IP-Adapter"),
        ({"config.json": {"_class_name": "UNet2DConditionModel"}}, "is a UNet alone"),
        ({"config.json": {"_class_name": "AutoencoderKL"}}, "is a VAE alone"),
        ({"config.json": {"architectures": ["CLIPTextModel"]}}, "is a text or image encoder alone"),
        ({"config.json": {"_class_name": "FluxTransformer2DModel"}}, "is a FLUX model"),
        ({"pytorch_lora_weights.safetensors": {}}, "is a LoRA"),
        ({"adapter_config.json": {}}, "is a LoRA"),
        ({"learned_embeds.bin": {}}, "is a textual inversion embedding"),
        ({"dreamshaper.safetensors": {}}, "contains dreamshaper.safetensors"),
        ({"model.ckpt": {}}, "is a pickle"),
        ({"notes.txt": {}}, "model_index.json not found"),
    ],
)
def test_folders_that_are_no_pipeline_are_named_for_what_they_are(tmp_path, files, words):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert words in str(refusal(tmp_path))


def test_a_part_of_a_pipeline_points_at_the_folder_above(copy):
    err = refusal(copy / "unet")
    assert "is a part of a pipeline" in err.what
    assert err.hint == f"give the folder above: {copy}"


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt", ".PTH", ".onnx", ".gguf", ".txt"])
def test_files_of_other_formats_are_refused(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"PK")
    err = refusal(file)
    is_pickle = suffix.lower() in {".ckpt", ".bin", ".pt", ".pth"}
    assert ("is a pickle" in err.what) == is_pickle
    assert str(file) in err.what
    assert ".safetensors" in (err.hint or "")


# -------------------------------------------------------------------- the hub's cache


def cached(tiny_folder, top, *commits, main=None):
    for commit in commits:
        shutil.copytree(tiny_folder, top / "snapshots" / commit)
        (top / "snapshots" / commit / "cnsctl.json").unlink()
    if main is not None:
        (top / "refs").mkdir(parents=True)
        (top / "refs" / "main").write_text(main)
    return top


def test_the_top_folder_of_a_repository_is_its_snapshot_named_by_the_repository(tmp_path, tiny_folder):
    top = cached(tiny_folder, tmp_path / "models--someone--my-model", "abc", "def", main="def\n")
    folder = open_folder(top)
    assert (folder.path, folder.name) == (top / "snapshots" / "def", "someone/my-model")
    assert open_folder(top / "snapshots" / "abc").name == "someone/my-model"


def test_the_only_snapshot_is_used_and_of_several_none_is_guessed(tmp_path, tiny_folder):
    one = cached(tiny_folder, tmp_path / "models--a--b", "abc", main="gone")
    assert open_folder(one).path.name == "abc"
    two = cached(tiny_folder, tmp_path / "models--c--d", "abc", "def")
    err = refusal(two)
    assert err.what.startswith("several snapshots in")
    assert "abc, def" in err.note
    (tmp_path / "models--e--f" / "snapshots").mkdir(parents=True)
    assert refusal(tmp_path / "models--e--f").what.startswith("no snapshot in")


def test_a_copy_of_a_snapshot_contains_files_and_no_links(tmp_path, copy):
    """In the hub's cache, the files of a snapshot are links to blobs."""
    from commands import cnsctl

    snapshot = tmp_path / "models--someone--my-model" / "snapshots" / "abc"
    for file in (file for file in copy.rglob("*") if file.is_file()):
        link = snapshot / file.relative_to(copy)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    assert cnsctl("init", "--store", tmp_path / "s", "--base", snapshot, "--copy", "-q").code == 0
    found = list((tmp_path / "s" / "base").rglob("*"))
    assert bytes_in(tmp_path / "s" / "base") == bytes_in(copy)
    assert not any(path.is_symlink() for path in found)


def test_a_store_refers_to_the_snapshot_and_not_to_what_main_is_later(tmp_path, tiny_folder):
    from commands import cnsctl

    top = cached(tiny_folder, tmp_path / "models--someone--my-model", "abc", main="abc")
    made = cnsctl("init", "--store", tmp_path / "s", "--base", top, "--json")
    assert made.json["base"]["name"] == "someone/my-model"
    record = json.loads((tmp_path / "s" / "store.json").read_text())
    assert json.dumps(record).count(str(top / "snapshots" / "abc")) == 1


# -------------------------------------------------------------------- distilled models


@pytest.mark.parametrize(
    ("name", "kind", "spacing", "steps"),
    [
        ("sd-turbo", "EulerDiscreteScheduler", "trailing", 4),
        ("SDXL-Lightning-8step", "EulerDiscreteScheduler", "trailing", 8),
        ("Hyper-SD-2steps", "DDIMScheduler", "trailing", 2),
        ("plain", "LCMScheduler", "leading", 4),
        ("plain", "EulerDiscreteScheduler", "trailing", None),  # NoobAI too counts from the end
        ("turbo", "EulerDiscreteScheduler", "leading", None),
        ("calcmodel", "EulerDiscreteScheduler", "trailing", None),
    ],
)
def test_a_distilled_base_model_gets_few_steps_without_guidance_and_says_so(
    tmp_path, tiny_folder, name, kind, spacing, steps
):
    folder = shutil.copytree(tiny_folder, tmp_path / name)
    (folder / "cnsctl.json").unlink()
    scheduler(folder, kind, timestep_spacing=spacing)
    found = open_folder(folder)
    settings = found.generate_settings()
    if steps is None:
        assert (settings.steps, settings.guidance_scale, found.notes) == (30, 7.5, ())
    else:
        assert (settings.steps, settings.guidance_scale) == (steps, 1.0)
        assert f"default: {steps} inference steps, guidance scale 1" in found.notes[0]
    (folder / "cnsctl.json").write_text('{"generate": {"steps": 20, "guidance_scale": 5}}')
    assert open_folder(folder).generate_settings().steps == 20
    assert open_folder(folder).notes == ()


def test_init_prints_what_a_folder_does_not_say(tmp_path, copy):
    from commands import cnsctl

    edit(copy, "unet/config.json", sample_size=None)
    made = cnsctl("init", "--store", tmp_path / "s", "--base", copy)
    assert made.code == 0
    assert "unet/config.json contains no image size; default: 32 × 32 pixels" in made.err


@pytest.mark.parametrize("break_it", [lambda f: shutil.rmtree(f / "unet"), lambda f: pickled(f, "vae"), lambda f: None])
def test_json_gets_one_object_and_no_line_of_a_library(tmp_path, copy, break_it, capfd):
    from commands import cnsctl

    break_it(copy)
    made = cnsctl("init", "--store", tmp_path / "s", "--base", copy, "--json")
    lines = [*made.out.splitlines(), *made.err.splitlines()]
    assert len([line for line in lines if json.loads(line).get("type") != "note"]) == 1
    assert capfd.readouterr() == ("", "")


def test_sdxl_is_told_from_its_refiner_and_a_missing_second_encoder_is_named(tmp_path):
    from tiny import make_sdxl

    folder = make_sdxl(tmp_path / "xl")
    edit(folder, "model_index.json", _class_name="StableDiffusionXLImg2ImgPipeline")
    assert open_folder(folder).family.name == "sdxl"
    refiner = shutil.copytree(folder, tmp_path / "refiner")
    edit(refiner, "model_index.json", text_encoder=[None, None], tokenizer=[None, None])
    assert "the refiner completes images of another model" in refusal(refiner).note
    inpainting = shutil.copytree(folder, tmp_path / "inpainting")
    edit(inpainting, "unet/config.json", in_channels=9)
    assert "a mask and a masked image" in refusal(inpainting).note
    shutil.rmtree(folder / "text_encoder_2")
    assert refusal(folder).what == f"text_encoder_2/ is missing in {folder}"


def test_pocket_and_every_family_have_a_pipeline_that_they_recognize():
    assert open_folder(base_folder.POCKET).family.name == "sd1"
    assert registry.family_of({"_class_name": "StableDiffusionPipeline"}) is None  # it lists no parts
