"""Every name that people type for a sampler means one sampler, with its noise schedule."""

from __future__ import annotations

import pytest

from cnsctl.errors import InvalidSettingError, UsageError
from cnsctl.sampler_names import SAMPLERS, Sampler, Sigmas, Spacing, near_samplers, read_sampler
from cnsctl.settings import GenerateSettings, checked, complete

BASES = {"steps": 30, "guidance_scale": 7.5, "sampler": "base", "width": 512, "height": 512}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        # A1111
        ("DPM++ 2M Karras", ("dpm++2m", "karras")),
        ("DPM++ 2M SDE Karras", ("dpm++2m-sde", "karras")),
        ("DPM++ 3M SDE Exponential", ("dpm++3m-sde", "exponential")),
        ("DPM++ SDE", ("dpm++sde", None)),
        ("DPM++ 2S", ("dpm++2s", None)),
        ("DPM2 a Karras", ("dpm2-a", "karras")),
        ("DPM2", ("dpm2", None)),
        ("Euler a", ("euler-a", None)),
        ("Euler", ("euler", None)),
        ("Heun", ("heun", None)),
        ("LMS Karras", ("lms", "karras")),
        ("UniPC", ("unipc", None)),
        ("PLMS", ("pndm", None)),
        ("DDIM", ("ddim", None)),
        ("LCM", ("lcm", None)),
        ("Euler Beta", ("euler", "beta")),
        # k-diffusion and ComfyUI
        ("k_euler_a", ("euler-a", None)),
        ("k_euler_ancestral", ("euler-a", None)),
        ("sample_dpmpp_2m", ("dpm++2m", None)),
        ("euler_ancestral", ("euler-a", None)),
        ("dpmpp_2m", ("dpm++2m", None)),
        ("dpmpp_2m_sde_gpu", ("dpm++2m-sde", None)),
        ("dpmpp_sde", ("dpm++sde", None)),
        ("dpm_2_ancestral", ("dpm2-a", None)),
        ("uni_pc", ("unipc", None)),
        ("k_lms", ("lms", None)),
        # InvokeAI
        ("dpmpp_2m_k", ("dpm++2m", "karras")),
        ("kdpm_2_a_k", ("dpm2-a", "karras")),
        # diffusers
        ("EulerAncestralDiscreteScheduler", ("euler-a", None)),
        ("DPMSolverMultistepScheduler", ("dpm++2m", None)),
        ("PNDMScheduler", ("pndm", None)),
    ],
)
@pytest.mark.parametrize("change", [str, str.lower, str.upper, lambda name: f"  {name} "])
def test_a_name_of_another_tool_in_any_case_means_one_sampler(name, meant, change):
    expected = {"sampler": meant[0]} | ({} if meant[1] is None else {"sigmas": meant[1]})
    assert dict(read_sampler(change(name))) == expected


def test_sgm_uniform_is_a_spacing():
    assert dict(read_sampler("DPM++ 2M SGM Uniform")) == {"sampler": "dpm++2m", "spacing": "trailing"}


@pytest.mark.parametrize("sampler", Sampler)
def test_every_sampler_has_its_own_name_and_its_class_means_a_sampler_of_this_class(sampler):
    for sigmas in Sigmas:
        ending = {} if sigmas is Sigmas.DEFAULT else {"sigmas": sigmas}
        assert dict(read_sampler(f"{sampler} {sigmas}" if ending else sampler)) == {"sampler": sampler} | ending
    if sampler is not Sampler.BASE:
        meant = read_sampler(SAMPLERS[sampler].scheduler)["sampler"]
        assert SAMPLERS[Sampler(meant)].scheduler == SAMPLERS[sampler].scheduler


@pytest.mark.parametrize(
    "name", ["", "karras", "magic", "DPM++ 2S a", "DPM fast", "Restart", "euler " * 99, "x" * 9999]
)
def test_an_unknown_name_is_refused(name):
    assert read_sampler(name) == {}
    with pytest.raises(InvalidSettingError, match="unknown sampler") as refused:
        checked(GenerateSettings, {"sampler": name})
    assert refused.value.allowed == ", ".join(Sampler)


def test_the_nearest_sampler_is_named():
    assert near_samplers("DPM++ 2S a")[0] == "dpm++2s"
    assert near_samplers("eular a")[0] == "euler-a"


def test_a_name_with_a_schedule_sets_both_and_a_contradiction_is_refused():
    assert complete(GenerateSettings, BASES, {"sampler": "Euler Karras"}).sigmas is Sigmas.KARRAS
    assert complete(GenerateSettings, BASES, {"sampler": "Euler Karras", "sigmas": "karras"}).sigmas is Sigmas.KARRAS
    with pytest.raises(UsageError, match="two values of sigmas: karras and beta"):
        checked(GenerateSettings, {"sampler": "Euler Karras", "sigmas": "beta"})


def test_a_base_models_schedule_belongs_to_its_sampler():
    brought = {**BASES, "sampler": "DPM++ 2M Karras", "spacing": "trailing"}
    own = complete(GenerateSettings, brought, {})
    assert (own.sampler, own.sigmas, own.spacing) == (Sampler.DPM_2M, Sigmas.KARRAS, Spacing.TRAILING)
    other = complete(GenerateSettings, brought, {"sampler": "euler"})
    assert (other.sampler, other.sigmas, other.spacing) == (Sampler.EULER, Sigmas.DEFAULT, Spacing.DEFAULT)
    assert complete(GenerateSettings, brought, {"sigmas": "beta"}).sampler is Sampler.DPM_2M


@pytest.mark.parametrize(
    ("size", "sides"), [("768x512", (768, 512)), ("768", (768, 768)), (512, (512, 512)), (" 64 × 32 ", (64, 32))]
)
def test_a_size_is_width_and_height(size, sides):
    assert checked(GenerateSettings, {"size": size}) == dict(zip(("width", "height"), sides, strict=True))
    assert complete(GenerateSettings, BASES, {"size": size}).height == sides[1]


@pytest.mark.parametrize(
    "size", ["", "x", "768x", "768x513", "16", "9" * 12, "768x512x3", "-64", None, True, 64.0, "7٣8"]
)
def test_a_size_that_is_not_one_is_refused_with_its_value(size):
    with pytest.raises(InvalidSettingError, match="size is out of range") as refused:
        checked(GenerateSettings, {"size": size})
    assert refused.value.value == size
    assert "768x512" in refused.value.allowed
