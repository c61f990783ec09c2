"""Rules of the texts in exported files."""

from __future__ import annotations

import dataclasses
import json

import pytest
from concept_files import concept

from cnsctl import formats
from cnsctl.export_formats import ExportFormat

F = ExportFormat


def texts(name, **changes):
    return formats.writer(name).metadata(concept(**changes))


@pytest.mark.parametrize(
    ("base", "architecture", "version"),
    [
        (("sd1", 768, "epsilon"), "stable-diffusion-v1", "sd_v1"),
        (("sd1", 1024, "epsilon"), "stable-diffusion-v2-512", "sd_v2"),
        (("sd1", 1024, "v_prediction"), "stable-diffusion-v2-768-v", "sd_v2_v"),
        (("sdxl", 2048, "epsilon"), "stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
        (("sdxl", 2048, "v_prediction"), "stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
    ],
)
@pytest.mark.parametrize(
    ("name", "kind"), [(F.LORA, "lora"), (F.LORA_EXACT, "lora"), (F.DIFF, "lora"), (F.EMBEDDING, "textual-inversion")]
)
def test_the_base_model_is_named_as_model_managers_name_it(base, architecture, version, name, kind):
    family, width, prediction = base
    found = texts(name, family=family, width=width, prediction=prediction)
    assert found["modelspec.architecture"] == f"{architecture}/{kind}"
    assert found["ss_base_model_version"] == version
    assert found["ss_v2"] == str(width == 1024)
    assert found["modelspec.prediction_type"] == ("v" if prediction.startswith("v") else "epsilon")


@pytest.mark.parametrize("name", formats.WRITERS)
def test_each_file_says_what_triggers_it_and_no_more_than_is_known(name):
    found = texts(name)
    assert found["modelspec.trigger_phrase"] == "<dog> dog"
    assert found["modelspec.title"] == found["ss_output_name"] == "dog"
    assert found["modelspec.resolution"] == "512x512"
    assert json.loads(found["ss_tag_frequency"]) == {"dog": {"<dog> dog": 1}}
    assert not {"ot_branch", "modelspec.date", "modelspec.hash_sha256"} & set(found)
    assert all(type(text) is str and text.isascii() for text in found.values())


def test_a_base_model_that_no_other_program_has_gets_no_name():
    assert "modelspec.architecture" not in texts(F.LORA, width=256)
    assert "modelspec.architecture" not in texts(F.KV), "managers would take whole weights for a checkpoint"


def test_rank_and_alpha_are_those_of_the_file():
    found = texts(F.LORA)
    assert (found["ss_network_module"], found["ss_network_dim"], found["ss_network_alpha"]) == (
        "networks.lora",
        "3",
        "3.0",
    )
    assert texts(F.LORA_EXACT)["ss_network_dim"] == "24"
    assert json.loads(texts(F.DIFF)["ss_network_args"]) == {"algo": "full"}


@pytest.mark.parametrize("name", formats.WRITERS)
def test_the_texts_of_the_workflow_are_kept(name):
    given = dataclasses.replace(concept(), metadata={"cnsctl.contains": "hat", "modelspec.title": "my dog"})
    found = formats.writer(name).metadata(given)
    assert (found["cnsctl.contains"], found["modelspec.title"]) == ("hat", "my dog")
