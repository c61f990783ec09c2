"""Rules of CUDA compared with the CPU: `pytest --device cuda`; skipped without CUDA.

With that option the shared bases compute on CUDA too, so that `tests/engine` states its rules there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import at, cnsctl
from engine_samples import concept_of, generated, job, named, overlay, prompt, same_delta, trained

from cnsctl.bases import base_folder, devices, registry
from cnsctl.bases.memory_estimate import PLANS
from cnsctl.concept import Mode
from cnsctl.data.prompt_templates import probe_prompts
from cnsctl.engine.denoising_error import denoising_error
from cnsctl.engine.generate import fitting_batch
from cnsctl.engine.overlay import EMPTY
from cnsctl.metrics.forgetting import psnr

if not torch.cuda.is_available():
    pytest.skip("no CUDA, or no --device cuda", allow_module_level=True)


def loaded(folder, device: str, dtype: str):
    place, number = devices.choose(device, dtype)
    return registry.load(base_folder.open_folder(folder), device=place, dtype=number, hash_weights=True)


@pytest.fixture(scope="module")
def on_cpu(tiny_folder):
    return loaded(tiny_folder, "cpu", "fp32")


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def on_cuda(request, tiny_folder):
    return loaded(tiny_folder, "cuda", request.param)


def test_auto_is_cuda_in_the_widest_type_that_is_fast_there():
    device, dtype = devices.choose()
    assert device.type == "cuda"
    assert dtype is (torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float32)


def test_a_base_has_the_same_fingerprint_and_weights_hash_everywhere(on_cuda, on_cpu):
    assert (on_cuda.fingerprint, on_cuda.part_hashes) == (on_cpu.fingerprint, on_cpu.part_hashes)


@pytest.mark.parametrize("mode", list(Mode))
def test_the_same_job_gives_the_same_delta(on_cuda, mode):
    assert same_delta(trained(on_cuda, job(on_cuda, mode=mode)).delta, trained(on_cuda, job(on_cuda, mode=mode)).delta)


def test_most_neurons_are_those_of_the_cpu(on_cuda, on_cpu):
    there, here = (trained(base, job(base)).delta.indices for base in (on_cuda, on_cpu))
    alike = sum(np.isin(there[s], here[s]).sum() for s in here) / sum(len(i) for i in here.values())
    assert alike > (0.95 if on_cuda.dtype is torch.float32 else 0.8)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_delta_trained_on_cuda_works_on_the_cpu(on_cuda, on_cpu, mode):
    a_job = job(on_cuda, mode=mode, steps=60, batch_size=3)
    delta = trained(on_cuda, a_job).delta
    rex, dog = probe_prompts("rex")[0], prompt("a dog")
    errors = [
        denoising_error(b, overlay(mode, rex=concept_of(b, delta)), rex, a_job.latents) for b in (on_cuda, on_cpu)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.01)
    assert errors[1] < 0.99 * denoising_error(on_cpu, EMPTY, dog, a_job.latents)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_images_are_similar_to_those_of_the_cpu(tiny_folder, on_cpu, dtype):
    there = loaded(tiny_folder, "cuda", dtype)
    delta = trained(on_cpu, job(on_cpu)).delta
    a, b = (
        generated(base, overlay(Mode.PROMPT, rex=concept_of(base, delta)), prompt("a ", named("rex")))
        for base in (there, on_cpu)
    )
    assert psnr(a, b) > (40 if dtype == "fp32" else 25)


def test_one_seed_gives_one_image(on_cuda):
    a, b = (generated(on_cuda, EMPTY, prompt("a dog")) for _ in range(2))
    assert np.array_equal(a, b)


def test_one_store_works_on_both(empty, images, tmp_path):
    """Trained on CUDA, generated and verified on the CPU, and the reverse."""
    for name, there in (("rex", "cuda"), ("tom", "cpu")):
        done = cnsctl("add", name, images, "--class", "dog", "--device", there, "--json", *at(empty))
        assert done.code == 0, done.err
    for there in ("cpu", "cuda"):
        assert cnsctl("verify", "--device", there, *at(empty)).code == 0
        out = tmp_path / f"{there}.png"
        result = cnsctl("gen", "<rex> and <tom>", "-o", out, "--device", there, *at(empty))
        assert result.code == 0, result.err
        assert out.stat().st_size > 0


def test_a_full_gpu_is_one_error_and_training_works_afterwards(empty, images):
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / torch.cuda.mem_get_info()[1])
    try:
        full = cnsctl("add", "rex", images, "--class", "dog", "--device", "cuda", *at(empty))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert full.code == 1
    assert "memory" in full.err
    assert "Traceback" not in full.err
    assert cnsctl("ls", "--json", *at(empty)).json["concepts"] == []
    assert cnsctl("add", "rex", images, "--class", "dog", "--device", "cuda", *at(empty)).code == 0


def test_another_seed_gives_another_delta(on_cuda):
    a_job = job(on_cuda)
    other = replace(a_job, settings=replace(a_job.settings, seed=1))
    assert not same_delta(trained(on_cuda, a_job).delta, trained(on_cuda, other).delta)


@pytest.mark.parametrize("memory", ["low", "lowest"])
def test_parts_that_wait_are_in_main_memory_and_the_work_is_the_same(tiny_folder, on_cpu, memory):
    place, number = devices.choose("cuda", "fp32")
    saving = registry.load(
        base_folder.open_folder(tiny_folder), device=place, dtype=number, hash_weights=True, plan=PLANS[memory]
    )
    full = loaded(tiny_folder, "cuda", "fp32")
    parts = saving.components

    def where(module):
        return next(module.parameters()).device.type

    def waiting():
        return [where(m) for m in (*parts.texts.modules, parts.vae)]

    assert set(waiting()) == {"cpu"}
    assert where(parts.denoiser) == ("cpu" if memory == "lowest" else "cuda")
    a, b = (generated(base, EMPTY, prompt("a dog")) for base in (saving, full))
    assert psnr(a, b) > 50
    assert set(waiting()) == {"cpu"}
    assert where(parts.denoiser) == ("cpu" if memory == "lowest" else "cuda")  # it left for the decoder
    a_job = job(saving)
    found = trained(saving, a_job)
    assert same_delta(found.delta, trained(saving, a_job).delta)
    assert found.final_loss == pytest.approx(trained(full, job(full)).final_loss, rel=1e-3)
    assert set(waiting()) == {"cpu"}


@pytest.mark.parametrize("memory", ["low", "lowest"])
def test_saving_memory_takes_less_of_it(tiny_folder, memory):
    """What stays allocated while the denoiser is bound: without text encoders, decoder and the copies of K/V weights."""
    held = {}
    for name in ("auto", memory):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        base = registry.load(
            base_folder.open_folder(tiny_folder), device=torch.device("cuda"), dtype=torch.bfloat16, plan=PLANS[name]
        )
        generated(base, EMPTY, prompt("a dog"))
        held[name] = torch.cuda.memory_allocated() - before
        del base
    assert held[memory] < 0.8 * held["auto"]


def test_a_batch_that_does_not_fit_is_halved(on_cuda, monkeypatch):
    predict = on_cuda._predict

    def full(noisy, *args):
        if len(noisy) > 8:
            torch.empty(1 << 45, dtype=torch.uint8, device="cuda")
        return predict(noisy, *args)

    monkeypatch.setattr(on_cuda, "_predict", full)
    assert fitting_batch(on_cuda, on_cuda.generate_defaults, most=16) == 4


def test_a_gpu_by_number():
    assert devices.choose("cuda:0", "fp32")[0] == torch.device("cuda:0")
