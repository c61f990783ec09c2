"""Every sampler on every published scheduler configuration gives the stock pipeline's images; the rest is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from importlib.util import find_spec
from inspect import signature
from itertools import combinations

import diffusers
import numpy as np
import pytest
import torch
from engine_samples import prompt

from cnsctl.bases import base_folder, registry, samplers
from cnsctl.bases.protocol import TextFeatures
from cnsctl.engine.generate import Request, generate_images
from cnsctl.engine.overlay import EMPTY
from cnsctl.errors import BaseModelError, UsageError
from cnsctl.metrics.forgetting import psnr
from cnsctl.sampler_names import Sampler, Sigmas, Spacing
from cnsctl.settings import GenerateSettings

BETAS = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "trained_betas": None,
}  # fmt: skip
OLD = {k: v for k, v in BETAS.items() if k != "trained_betas"}
SINCE_0_7 = {**BETAS, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False}
SDXL = {
    **SINCE_0_7, "interpolation_type": "linear", "prediction_type": "epsilon", "sample_max_value": 1.0,
    "timestep_spacing": "leading", "use_karras_sigmas": False,
}  # fmt: skip
V = {"prediction_type": "v_prediction"}

CONFIGS = {
    "sd14-2022": {"_class_name": "PNDMScheduler", **OLD, "skip_prk_steps": True},
    "sd14-ddim-2022": {"_class_name": "DDIMScheduler", **OLD},
    "offset-0": {"_class_name": "PNDMScheduler", **SINCE_0_7, "steps_offset": 0},
    "sd15": {"_class_name": "PNDMScheduler", **SINCE_0_7},
    "sd21": {"_class_name": "DDIMScheduler", **SINCE_0_7, **V},
    "sdxl": {"_class_name": "EulerDiscreteScheduler", **SDXL},
    "noobai-v": {"_class_name": "EulerDiscreteScheduler", **SDXL, **V, "rescale_betas_zero_snr": True},
    "zero-snr-trailing": {
        "_class_name": "EulerDiscreteScheduler", **SDXL, **V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
    },
    "turbo": {"_class_name": "EulerAncestralDiscreteScheduler", **SDXL, "timestep_spacing": "trailing"},
}  # fmt: skip
"""The published ones, and files of 2022 that lack what the stock pipeline corrects."""

STOCK = {
    "dpm++2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++3m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    "dpm++2s": ("DPMSolverSinglestepScheduler", {}),
    "dpm++sde": ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2-a": ("KDPM2AncestralDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
"""What a user of the stock pipeline writes for each sampler: its class, and what differs from its defaults."""

PREDICTIONS = ("epsilon", "v_prediction")


class Cheap(torch.nn.Module):
    """A denoiser whose answer depends on all that it is given; it costs nothing."""

    dtype = torch.float32

    def __init__(self, config, device):
        super().__init__()
        self.config, self.device = config, device

    def forward(self, sample, timestep, encoder_hidden_states, **_):
        text = encoder_hidden_states.mean(dim=(1, 2))[:, None, None, None]
        return (torch.sin(1.3 * sample + text + timestep / 1000),)


@pytest.fixture
def cheap(tiny, monkeypatch):
    denoiser = Cheap(tiny.components.denoiser.config, tiny.device)

    def predict(noisy, times, features, _frames):
        return denoiser(noisy, times, features.x)[0]

    monkeypatch.setattr(tiny, "components", replace(tiny.components, denoiser=denoiser, predict=predict))
    return tiny


def with_scheduler(base, scheduler):
    base.components = replace(base.components, scheduler=scheduler)


@pytest.fixture
def written(tmp_path):
    """Writes a scheduler's folder."""

    def write(config):
        (tmp_path / "scheduler").mkdir(exist_ok=True)
        (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
        return tmp_path / "scheduler"

    return write


def own(folder, **options):
    defaults = {"predictions": ("epsilon", "v_prediction"), "corrects": True, "shown": folder.parent}
    return samplers.load(samplers.read_config(folder), None, **defaults | options)


def stock_pipeline(scheduler, **parts):
    """The stock pipeline's constructor, which corrects old files."""
    absent = dict.fromkeys(("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor"))
    pipe = diffusers.StableDiffusionPipeline(**absent | parts, scheduler=scheduler, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock_scheduler(folder, sampler, **changes):
    """The scheduler of a stock pipeline, changed as its users do."""
    name = json.loads((folder / "scheduler_config.json").read_text())["_class_name"]
    begun = stock_pipeline(getattr(diffusers, name).from_pretrained(folder)).scheduler
    if sampler == "base" and not changes:
        return begun
    kind, more = STOCK.get(sampler, (name, {}))
    return getattr(diffusers, kind).from_config(begun.config, **more, **changes)


def latents_of_both(base, scheduler, settings):
    """Latents of one image: of the stock pipeline with this scheduler, and ours."""
    text = torch.randn((2, 24, 40), generator=torch.Generator().manual_seed(1)).to(base.device)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    noise = torch.randn((1, base.components.denoiser.config.in_channels, 16, 16), generator=generators[0])
    guided = settings.guidance_scale > 1
    theirs = stock_pipeline(scheduler, unet=base.components.denoiser, vae=base.components.vae)(
        prompt_embeds=text[1:], negative_prompt_embeds=text[:1] if guided else None, latents=noise.to(base.device),
        num_inference_steps=settings.steps, guidance_scale=settings.guidance_scale, height=32, width=32,
        generator=generators[:1], output_type="latent",
    ).images  # fmt: skip
    with base.bind(dict.fromkeys(base.sites, text), TextFeatures(x=text if guided else text[1:])):
        *_, ours = base.sample(settings, generators[1:])
    return theirs, ours.latents


def in_words(sampler):
    return f"sampler {re.escape(sampler)}"


WITHOUT_ZERO_SNR = ("dpm++2s", "dpm++sde", "heun", "dpm2", "dpm2-a", "lms", "deis", "pndm")


SLOW = (Sampler.DPM2, Sampler.DPM2_A)
"""Their constructors take half a second: they run on a few of the cases."""

PAIRS = [(c, s) for c in CONFIGS for s in Sampler if s not in SLOW or c in ("sd14-2022", "turbo", "noobai-v")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sampler"), PAIRS)
def test_every_sampler_on_every_configuration_equals_the_stock_pipeline_bit_for_bit(cheap, written, name, sampler):
    if sampler == "lms":
        pytest.importorskip("scipy")
    folder = written(CONFIGS[name])
    with_scheduler(cheap, own(folder))
    settings = replace(cheap.generate_defaults, sampler=sampler, steps=3)
    if "rescale_betas_zero_snr" in CONFIGS[name] and sampler in WITHOUT_ZERO_SNR:
        with pytest.raises(UsageError, match=f"{in_words(sampler)} does not support the noise schedule"):
            cheap.check_sampler(settings)
        return
    stock = stock_scheduler(folder, sampler)
    for guidance in (1.0, 3.0):
        theirs, ours = latents_of_both(cheap, stock, replace(settings, guidance_scale=guidance))
        assert torch.equal(ours, theirs)
        assert bool(torch.isfinite(ours).all())


@pytest.mark.parametrize("name", ["sd14-2022", "sd14-ddim-2022", "sd15"])
def test_images_on_an_old_configuration_are_the_stock_pipelines(tiny_folder, tmp_path, name):
    """The whole pipeline from the prompt, of a folder whose scheduler file lacks `steps_offset` and `clip_sample`."""
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(CONFIGS[name]))
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", CONFIGS[name]["_class_name"]]
    (folder / "model_index.json").write_text(json.dumps(index))
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    base = registry.load(base_folder.open_folder(folder), device=torch.device("cpu"), dtype=torch.float32)
    settings = replace(base.generate_defaults, steps=4, guidance_scale=3.0)
    seed = torch.Generator().manual_seed(7)
    theirs = pipe("a dog", num_inference_steps=4, guidance_scale=3.0, generator=seed).images[0]
    ((_, ours),) = generate_images(base, EMPTY, [Request(prompt=prompt("a dog"), seed=7)], settings)
    assert psnr(ours, np.asarray(theirs)) >= 50


def schedule(setting, value):
    """The same setting of a stock scheduler."""
    return {f"use_{value}_sigmas": True} if setting == "sigmas" else {"timestep_spacing": str(value)}


VALUES = [("sigmas", v) for v in Sigmas if v != "default"] + [("spacing", v) for v in Spacing if v != "default"]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", Sampler)
def test_sigmas_and_spacing_are_the_stock_schedulers_or_refused(cheap, written, sampler):
    folder = written(CONFIGS["sdxl"])
    with_scheduler(cheap, own(folder))
    kind = getattr(diffusers, STOCK.get(sampler, ("EulerDiscreteScheduler",))[0])
    if sampler == "lms" and find_spec("scipy") is None:
        pytest.skip("needs scipy")
    seen = []
    for setting, value in VALUES:
        settings = replace(cheap.generate_defaults, sampler=sampler, steps=5, guidance_scale=1.0, **{setting: value})
        theirs = schedule(setting, value)
        if not set(theirs) <= set(signature(kind.__init__).parameters) or sampler == "lcm":
            with pytest.raises(UsageError, match=f"{in_words(sampler)} does not support {setting} {value}"):
                cheap.check_sampler(settings)
        elif value == "beta" and find_spec("scipy") is None:
            with pytest.raises(UsageError, match="scipy"):
                cheap.check_sampler(settings)
        elif sampler not in SLOW or value in ("karras", "trailing"):
            ours, expected = latents_of_both(cheap, stock_scheduler(folder, sampler, **theirs), settings)
            assert torch.equal(ours, expected)
            seen.append((setting, ours))
    for (setting, one), (other, two) in combinations(seen, 2):
        assert setting != other or not torch.equal(one, two), "a setting without an effect is refused"


def test_without_the_stock_pipelines_correction_the_file_counts(written):
    """StableDiffusionXLPipeline corrects nothing."""
    folder = written(CONFIGS["sd14-2022"])
    settings = GenerateSettings(steps=3, guidance_scale=1.0, sampler=Sampler.BASE, width=32, height=32)
    for corrects, theirs in (
        (False, diffusers.PNDMScheduler.from_pretrained(folder)),
        (True, stock_scheduler(folder, "base")),
    ):
        ours = samplers.make(settings, own(folder, corrects=corrects))
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(7)
        assert torch.equal(ours.timesteps, theirs.timesteps)


def test_a_scheduler_is_new_for_each_run_and_leaves_the_base_models_own_unchanged(tiny, written):
    begun = own(written(CONFIGS["sd15"]))
    settings = replace(tiny.generate_defaults, steps=5)
    made = samplers.make(settings, begun)
    made.set_timesteps(5)
    assert made is not begun
    assert begun.num_inference_steps is None
    assert samplers.make(settings, begun).num_inference_steps is None


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "flow matching"),
        ({"_class_name": "FlowMatchHeunDiscreteScheduler"}, "flow matching"),
        (
            {"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True, "prediction_type": "flow_prediction"},
            "flow",
        ),
        (
            {"_class_name": "DPMSolverMultistepScheduler", **BETAS, "prediction_type": "flow_prediction"},
            "flow matching",
        ),
        (
            {"_class_name": "DDIMScheduler", **BETAS, "prediction_type": "sample"},
            "predicts 'sample', not epsilon or v_",
        ),
        ({"_class_name": "EDMEulerScheduler", "sigma_min": 0.002}, "does not contain a noise schedule"),
        ({"_class_name": "DDIMScheduler"}, "does not contain a noise schedule"),
        ({"_class_name": "Nonsense", **BETAS}, "Nonsense is not a scheduler of diffusers"),
        ({"_class_name": "UNet2DModel", **BETAS}, "UNet2DModel is not a scheduler"),
        ({**BETAS}, "None is not a scheduler"),
        (
            {"_class_name": "DDIMScheduler", **BETAS, "beta_schedule": "magic"},
            "DDIMScheduler: magic is not implemented",
        ),
        ({"_class_name": "DDIMScheduler", **BETAS, "beta_start": "x"}, "DDIMScheduler: "),
        ({"_class_name": "DPMSolverMultistepScheduler", **BETAS, "algorithm_type": "magic"}, "magic"),
        ({"_class_name": "DPMSolverSDEScheduler", **BETAS}, "needs torchsde|does not follow the seed"),
        ({"_class_name": "DDIMScheduler", **BETAS, "num_train_timesteps": "many"}, "DDIMScheduler: "),
    ],
)
def test_a_scheduler_that_cannot_be_used_is_refused_with_the_reason(written, config, reason):
    with pytest.raises(BaseModelError, match=reason) as refused:
        own(written(config))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("config", "sampler", "steps", "nearest"),
    [
        ({"_class_name": "PNDMScheduler", **BETAS, "skip_prk_steps": False}, "base", 3, 4),
        ({"_class_name": "PNDMScheduler", **BETAS, "skip_prk_steps": False}, "base", 1, 4),
        ({"_class_name": "PNDMScheduler", **BETAS}, "base", 2, 4),
        (CONFIGS["sd15"], "lcm", 51, 50),
        ({**CONFIGS["sd15"], "num_train_timesteps": 10}, "ddim", 11, 9),
        ({**CONFIGS["sd15"], "num_train_timesteps": 10}, "ddim", 999, None),
    ],
)
def test_a_number_of_steps_that_a_sampler_cannot_run_is_refused(tiny, written, config, sampler, steps, nearest):
    settings = replace(tiny.generate_defaults, sampler=Sampler(sampler), steps=steps)
    with pytest.raises(UsageError, match=f"{in_words(sampler)} cannot run {steps} step") as refused:
        samplers.check(settings, own(written(config)))
    assert refused.value.facts["nearest"] == nearest
    if nearest is not None:
        samplers.check(replace(settings, steps=nearest), own(written(config)))


def test_pndm_itself_runs_any_number_of_steps_without_the_runge_kutta_start(tiny, written):
    begun = own(written({"_class_name": "PNDMScheduler", **BETAS, "skip_prk_steps": False}))
    for steps in (1, 2, 3):
        samplers.check(replace(tiny.generate_defaults, sampler=Sampler.PNDM, steps=steps), begun)


@pytest.mark.skipif(find_spec("scipy") is not None, reason="scipy is installed")
def test_a_missing_library_is_named(tiny, written):
    with pytest.raises(BaseModelError, match="LMSDiscreteScheduler needs scipy") as refused:
        own(written({"_class_name": "LMSDiscreteScheduler", **BETAS}))
    assert refused.value.hint == "install it: pip install scipy"
    with pytest.raises(UsageError, match="sampler lms needs scipy"):
        tiny.check_sampler(replace(tiny.generate_defaults, sampler=Sampler.LMS))
