"""No file is of two formats: names and shapes of real files (`keys/*.json`, written by `make_keys.py`)."""

from __future__ import annotations

from importlib import import_module

import pytest
from concept_files import LISTS, concept, encoded, key_list, sites_of, zeros_file
from store_samples import make_delta

from cnsctl import formats
from cnsctl.bases.recognize import Kind, recognize
from cnsctl.concept import Mode
from cnsctl.errors import BaseModelError, UnknownFormatError
from cnsctl.export_formats import ExportFormat, KeyStyle
from cnsctl.formats import bundle, delta
from cnsctl.formats.canonical import sha256
from cnsctl.formats.tensor_file import Entry, Header, open_file
from cnsctl.key_names import is_keys_or_values

MODULES = {name: import_module(name) for name in formats.FORMATS}


def matching(header):
    return [str(module.NAME) for module in MODULES.values() if module.matches(header)]


@pytest.mark.parametrize("name", LISTS)
def test_a_real_file_matches_its_own_format_and_no_other(name):
    entries = {key: Entry(dtype="F16", shape=shape) for key, shape in key_list(name).items()}
    own = name.partition("_")[0]
    assert matching(Header(entries=entries)) == ([] if own == "none" else [own])


@pytest.mark.parametrize("keys", KeyStyle)
@pytest.mark.parametrize("name", formats.WRITERS)
def test_an_exported_file_matches_one_format(tmp_path, name, keys):
    (tmp_path / "x").write_bytes(encoded(concept(), name, keys))
    with open_file(tmp_path / "x") as file:
        own = "lora" if name is ExportFormat.LORA_EXACT else str(name)  # an exact LoRA is a LoRA
        assert matching(file.header) == [own]
    assert str(formats.detect(tmp_path / "x").NAME) == own


def test_files_of_cnsctl_match_one_format(tmp_path):
    data = delta.write(make_delta(0))
    (tmp_path / "native").write_bytes(data)
    with open_file(tmp_path / "native") as file:
        assert matching(file.header) == ["native"]
    listed = bundle.BundledConcept(
        name="dog", class_word="dog", mode=Mode.TOKEN, neurons=1, created=None, sha256=sha256(data), bytes=len(data)
    )
    base = bundle.BaseReference(name="x", family="sd1", fingerprint="f", origin="x")
    with (tmp_path / "bundle").open("wb") as stream:
        bundle.write_bundle(stream, base, [listed], {"dog": data}.__getitem__)
    assert matching(Header(start=(tmp_path / "bundle").read_bytes()[:64])) == ["bundle"]


def test_every_format_that_is_exported_has_a_writer_or_is_made_of_other_files():
    assert set(formats.WRITERS) == set(ExportFormat) - {
        ExportFormat.NATIVE,
        ExportFormat.BUNDLE,
        ExportFormat.CHECKPOINT,
    }
    assert {module.NAME for module in MODULES.values()} | {ExportFormat.LORA_EXACT, ExportFormat.CHECKPOINT} == set(
        ExportFormat
    )
    for name in formats.WRITERS:
        assert formats.writer(name).NAME is name


READ = {
    "lora_kohya_sd15": ("sd15", True),
    "lora_kohya_sdxl": ("sdxl", True),
    "lora_kohya_kv_sd15": ("sd15", False),
    "lora_kohya_kv_sd21": ("sd21", False),
    "lora_kohya_kv_sdxl": ("sdxl", False),
    "lora_kohya_kv_original_sdxl": ("sdxl", False),
    "lora_locon_sd15": ("sd15", True),
    "lora_diffusers_sd15": ("sd15", True),
    "lora_diffusers_sd15_early": ("sd15", True),
    "lora_peft_sdxl": ("sdxl", True),
    "lora_peft_model_sd15": ("sd15", True),
    "lora_onetrainer_sdxl": ("sdxl", False),
    "diff_sd15": ("sd15", False),
    "diff_sdxl": ("sdxl", False),
    "diff_lycoris_full_sd15": ("sd15", True),
    "kv_sd15": ("sd15", False),
    "kv_original_form_sd15": ("sd15", False),
    "custom-diffusion_sd15": ("sd15", False),
    "custom-diffusion_without_self_attention_sd21": ("sd21", False),
}
"""List → its base model, and whether the file changes more than K and V."""


@pytest.mark.parametrize("name", READ)
def test_all_sites_of_a_real_file_are_found_and_the_rest_is_named(tmp_path, name):
    base, more = READ[name]
    shapes = sites_of(base)
    path = zeros_file(tmp_path / "x", key_list(name))
    with formats.opened(path, shapes) as found:
        assert set(found.weights) == set(shapes)
        assert found.shapes == shapes
        assert bool(found.also) == more
        site = min(shapes)
        assert found.weights[site]().shape == shapes[site]
        assert not any(is_keys_or_values(part) for part in found.also)


def test_each_list_of_weights_is_read():
    assert set(READ) == {name for name in LISTS if not name.startswith(("none_", "embedding_"))} - {"lora_flux"}


@pytest.mark.parametrize(
    ("name", "base"),
    [("lora_kohya_kv_sdxl", "sd15"), ("lora_kohya_kv_sd15", "sd21"), ("diff_sd15", "sdxl"), ("kv_sd15", "sd21")],
)
def test_a_file_for_another_base_model_is_refused_as_such(tmp_path, name, base):
    path = zeros_file(tmp_path / "x", key_list(name))
    with pytest.raises(BaseModelError, match="another base model"), formats.opened(path, sites_of(base)):
        pass


def test_a_lora_of_another_family_changes_no_site_and_all_of_it_is_named(tmp_path):
    path = zeros_file(tmp_path / "x", key_list("lora_flux"))
    with formats.opened(path, sites_of("sd15")) as found:
        assert not found.weights
        assert len(found.also) == 38


@pytest.mark.parametrize(("name", "method"), [("none_loha_sd15", "LoHa"), ("none_lokr_sdxl", "LoKr")])
def test_an_unknown_file_of_a_known_method_is_called_by_it(tmp_path, name, method):
    with pytest.raises(UnknownFormatError, match="unknown format") as caught:
        formats.detect(zeros_file(tmp_path / "x", key_list(name)))
    assert method in caught.value.note


def test_a_checkpoint_is_called_a_whole_model(tmp_path):
    with pytest.raises(UnknownFormatError, match="unknown format") as caught:
        formats.detect(zeros_file(tmp_path / "x", key_list("none_checkpoint_sd15")))
    assert "a whole model" in caught.value.note


def test_an_unknown_file_is_refused_with_the_known_formats(tmp_path):
    with pytest.raises(UnknownFormatError, match="unknown format") as caught:
        formats.detect(zeros_file(tmp_path / "x", {"layers.0.weight": (2, 2)}))
    assert "lora, custom-diffusion, diff, kv, embedding" in caught.value.note


KINDS = {
    "lora": Kind.LORA,
    "diff": Kind.LORA,
    "custom-diffusion": Kind.LORA,
    "kv": Kind.KEYS_VALUES,
    "embedding": Kind.EMBEDDING,
    "none_checkpoint_sd15": Kind.SD1,
    "none_unet_sd15": Kind.UNET,
    "none_vae": Kind.VAE,
    "none_text_encoder": Kind.TEXT_ENCODER,
    "none_controlnet_sd15": Kind.CONTROLNET,
    "none_ip_adapter": Kind.ADAPTER,
    "none_loha_sd15": Kind.LORA,
    "none_lokr_sdxl": Kind.LORA,
    "none_motion_module": Kind.MOTION,
    "none_cache": Kind.UNKNOWN,
}


@pytest.mark.parametrize("name", LISTS)
def test_a_real_file_that_is_given_as_a_base_model_is_called_what_it_is(name):
    own = name if name.startswith("none_") else name.partition("_")[0]
    assert recognize(key_list(name)) is KINDS[own]
