"""The cost of training, generating and verifying, as ratios measured in one run: `python -m benchmarks.costs`.

    general         the general neurons of the base model, once per store
    training step   neurons and token embedding, compared with the token embedding alone (goal: at most 1.05 ×); in
                    brackets CPU time, on which other programs have less influence
    kernels         on CUDA: kernels launched per training step in addition to the denoiser's own
    image           with the base model's defaults
    memory          the peak of the GPU's memory until then
    proof           20 concepts, K/V only
    delta           bytes per neuron on disk
    start           from the start of the process to the end of the first denoising step: `cnsctl gen` compared with stock
                    diffusers on the same folder (goal: at most 1.15 ×); in brackets CPU time
    light commands  ls, --help: whole processes

`--shape sd15|sd21|sdxl` measures on random weights in the shape of a published base model, every setting of `--memory` in
a process of its own: `benchmarks/full_size.py`.

`--training-only` prints only the training step. `--size` uses smaller images: on CPUs a step at SD 1.5's size takes
minutes at 512 × 512. `--random-sd1` measures on random weights in the shapes of Stable Diffusion 1.5.

Figures are medians of interleaved rounds. Do not compare figures of two machines.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks import full_size
from benchmarks.shapes import SHAPES, write_sd1
from cnsctl.bases import base_folder, devices, registry
from cnsctl.bases.protocol import Base
from cnsctl.concept import Delta, Mode, Prompt
from cnsctl.data.prompt_templates import calibration_texts, probe_prompts, training_texts
from cnsctl.engine import neurons
from cnsctl.engine.concepts import to_concept
from cnsctl.engine.generate import Request, generate_images
from cnsctl.engine.job import Job
from cnsctl.engine.overlay import EMPTY, Overlay, joined, text_keys_values
from cnsctl.engine.proof import prove, record
from cnsctl.engine.trainer import Trainer
from cnsctl.formats import delta as delta_file
from cnsctl.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--random-sd1", action="store_true")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--times-dtype", help="with --shape: of the times, if it is not that of the peaks")
    parser.add_argument(
        "--peak-alone", action="store_true", help="with --shape: the peak with lowest, and nothing else"
    )
    parser.add_argument("--peak-size", type=int, help="with --shape: pixels per side for the peaks")
    parser.add_argument("--training-only", action="store_true")
    parser.add_argument("--size", type=int, help="pixels per side of the training images")
    options = parser.parse_args()
    if options.shape is not None:
        full_size.main(
            options.shape,
            dtype=options.dtype,
            size=options.size,
            times_dtype=options.times_dtype,
            peak_size=options.peak_size,
            peak_alone=options.peak_alone,
        )
        return
    device, dtype = devices.choose("auto", options.dtype)
    native = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    say("machine", f"{platform.machine()}, {os.cpu_count()} cores, native bf16 {native}, torch {torch.__version__}")
    card = f" ({torch.cuda.get_device_name()})" if device.type == "cuda" else ""
    say("computing", f"{device}{card}, {devices.dtype_name(dtype)}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as kept:
        path = write_sd1(Path(kept) / "sd1", device) if options.random_sd1 else base_folder.POCKET
        base = registry.load(base_folder.open_folder(path), device=device, dtype=dtype, hash_weights=True)
        steps(base, options.rounds, options.size or base.size)
        if options.training_only:
            return
        start(path, Path(kept) / "store", device.type, devices.dtype_name(dtype))
        general(base)
    image(base)
    memory(device)
    proof(base)
    bytes_on_disk(base)
    light_commands()


def say(what: str, figure: str) -> None:
    print(f"{what:15} {figure}", flush=True)  # noqa: T201  a benchmark's answer


def general(base: Base) -> None:
    began = time.perf_counter()
    neurons.general_neurons(base, calibration_texts())
    say("general", f"{time.perf_counter() - began:.1f} s")


def trainer_of(base: Base, mode: Mode, size: int) -> Trainer:
    """A training run on five random images of size × size pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, size, size, 3), np.uint8)
    defaults: dict[str, Any] = dict(base.train_defaults)
    asked = Job(
        name="dog", class_word="dog", latents=list(base.encode_images(pixels)), texts=[training_texts("dog")] * 5,
        settings=TrainSettings(**defaults), mode=mode, prior=EMPTY, general={}, owned=neurons.packed(base, []),
    )  # fmt: skip
    return Trainer(base, asked)


def steps(base: Base, rounds: int, size: int) -> None:
    """A step that trains the neurons too against one that trains the token embedding alone."""
    trainers = {"token alone": trainer_of(base, Mode.PROMPT, size)}
    for mode in (Mode.PROMPT, Mode.TOKEN):
        trainers[f"{mode} mode"] = trainer_of(base, mode, size)
        trainers[f"{mode} mode"].train_on(neurons.random_neurons(base, budget=base.train_defaults["budget"], seed=0))
    # as in training: deterministic kernels have another speed
    torch.use_deterministic_algorithms(mode=True, warn_only=base.device.type != "cuda")
    times: dict[str, list[float]] = {name: [] for name in trainers}
    busy: dict[str, list[float]] = {name: [] for name in trainers}
    for turn in range(rounds + 2):
        for name, each in trainers.items():
            began, used = time.perf_counter(), time.process_time()
            each.step()
            if base.device.type == "cuda":
                torch.cuda.synchronize()  # otherwise the end of this step would count for the next
            if turn >= 2:
                times[name].append(time.perf_counter() - began)
                busy[name].append(time.process_time() - used)
    if base.device.type == "cuda":
        kernels(base, trainers)
    torch.use_deterministic_algorithms(mode=False)
    (alone, *others), (alone_cpu, *others_cpu) = ([statistics.median(t) for t in m.values()] for m in (times, busy))
    ratios = ", ".join(
        f"{name} {wall / alone:.3f} × (CPU {cpu / alone_cpu:.3f} ×)"
        for name, wall, cpu in zip(list(times)[1:], others, others_cpu, strict=True)
    )
    say("training step", f"token alone {alone:.3f} s; {ratios}; {size} × {size} pixels, {rounds} rounds")


def kernels(base: Base, trainers: Mapping[str, Trainer]) -> None:
    """Kernels that a step launches in addition to the denoiser's own, forward and backward."""
    job = trainers["token alone"].job
    chosen = [job.latents[i % len(job.latents)] for i in range(job.settings.batch_size)]
    latents = torch.stack(chosen).to(base.device)
    noisy, target = base.noised(latents, torch.randn_like(latents), torch.zeros(len(latents), dtype=torch.int64))
    prompt = EMPTY.splice(base, Prompt(text="a dog", pieces=("a dog",)))
    text = joined([text_keys_values(base, EMPTY, prompt)[0]] * len(latents))
    shape = text.x.shape[:2]
    kv = {s: torch.zeros((*shape, len(W)), device=base.device, dtype=base.dtype) for s, W in base.sites.items()}

    def denoise() -> None:
        with base.bind({s: x.requires_grad_() for s, x in kv.items()}, text):
            answer = base.denoise(noisy, torch.zeros(len(latents), dtype=torch.int64))
            torch.nn.functional.mse_loss(answer, target).backward()  # type: ignore[no-untyped-call]

    own = launched(denoise)
    counts = ", ".join(f"{name} {launched(each.step) - own:,}" for name, each in trainers.items())
    say("kernels", f"in addition to the denoiser's own {own:,}: {counts}")


def launched(work: Callable[[], object]) -> int:
    from torch.profiler import ProfilerActivity, profile

    work()  # the first call loads and selects kernels
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    copies = ("Memcpy", "Memset")
    return sum(e.count for e in seen.key_averages() if e.device_type.name == "CUDA" and not e.key.startswith(copies))


def image(base: Base) -> None:
    prompt = Prompt(text="a dog on a beach", pieces=("a dog on a beach",))
    for seed in range(2):  # the second counts
        began = time.perf_counter()
        list(generate_images(base, EMPTY, [Request(prompt=prompt, seed=seed)], base.generate_defaults))
    say(
        "image",
        f"{time.perf_counter() - began:.2f} s, {base.size} × {base.size}, {base.generate_defaults.steps} steps",
    )


def memory(device: torch.device) -> None:
    if device.type == "cuda":
        say("memory", f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def concepts(base: Base, n: int) -> dict[str, Delta]:
    found = {}
    for i in range(n):
        mask = neurons.random_neurons(base, budget=0.058, seed=i)
        found[f"c{i}"] = Delta(
            shapes={s: (W.shape[0], W.shape[1]) for s, W in base.sites.items()},
            indices={s: m.cpu().numpy() for s, m in mask.items()},
            values={s: base.sites[s].view(-1)[m].cpu().numpy().astype(np.float16) for s, m in mask.items()},
            vectors={e: np.zeros((1, w), np.float16) for e, w in base.vector_widths.items()},
            class_word="dog", fingerprint=base.fingerprint, mode=Mode.PROMPT,
        )  # fmt: skip
    return found


def proof(base: Base) -> None:
    """K/V proof of 20 concepts, two probe prompts each."""
    made = {n: to_concept(base, d, key=n) for n, d in concepts(base, 20).items()}
    overlay = Overlay(mode=Mode.PROMPT, concepts=made)
    records = {n: record(base, overlay, n, probe_prompts(n)[:2]) for n in made}
    began = time.perf_counter()
    assert all(prove(base, overlay, n, r).unchanged for n, r in records.items())
    say("proof", f"20 concepts in {time.perf_counter() - began:.2f} s, base model loaded")


def bytes_on_disk(base: Base) -> None:
    (delta,) = concepts(base, 1).values()
    data = delta_file.write(delta)
    say("delta", f"{len(data):,} bytes for {delta.n_neurons:,} neurons: {len(data) / delta.n_neurons:.2f} per neuron")


TO_THE_FIRST_STEP = """
import os
import sys
import torch
from torch.nn.modules.module import register_module_forward_hook
def leave(module, _args, _output):
    if type(module).__name__ == "UNet2DConditionModel":
        os._exit(0)
register_module_forward_hook(leave)
"""
"""Ends the process of any program at the end of its first denoising step, which also reads weights that were mapped."""

STOCK = """
import warnings
from diffusers import StableDiffusionPipeline
warnings.simplefilter("ignore")
folder, device, dtype = sys.argv[1:]
dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
pipe = StableDiffusionPipeline.from_pretrained(
    folder, torch_dtype=dtype, safety_checker=None, requires_safety_checker=False, local_files_only=True
).to(device)
pipe("a dog on a beach", generator=torch.Generator().manual_seed(0))
sys.exit("no denoising step")
"""
"""A typical script with diffusers."""

SPIN = """
import os
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
"""
"""Set by cnsctl's entry point before torch is loaded; here torch is loaded first."""

OURS = """
from cnsctl.cli.main import run
run()
"""


def start(folder: Path, store: Path, device: str, dtype: str, rounds: int = 5) -> None:
    """Whole processes, interleaved; the base model was hashed and the disk's cache filled before."""
    call("init", "--store", str(store), "--base", str(folder))
    line = ["gen", "a dog on a beach", "--store", str(store), "-o", str(store / "x.png"), "--device", device]
    programs = {
        "stock": [TO_THE_FIRST_STEP + STOCK, str(folder), device, dtype],
        "ours": [SPIN + TO_THE_FIRST_STEP + OURS, *line, "--dtype", dtype],
    }
    walls: dict[str, list[float]] = {name: [] for name in programs}
    cpus: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, (code, *args) in programs.items():
            began, used = time.perf_counter(), os.times()
            subprocess.run([sys.executable, "-c", code, *args], check=True, capture_output=True)
            ended = os.times()
            if turn > 0:
                walls[name].append(time.perf_counter() - began)
                cpus[name].append(sum(ended[2:4]) - sum(used[2:4]))
    (stock, ours), (stock_cpu, ours_cpu) = ([statistics.median(t[n]) for n in programs] for t in (walls, cpus))
    say(
        "start",
        f"cnsctl {ours:.2f} s, stock diffusers {stock:.2f} s: {ours / stock:.2f} × (CPU {ours_cpu / stock_cpu:.2f} ×)",
    )


def light_commands() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        call("init", "--store", store)
        for line in (["ls", "--store", store], ["--help"], ["--version"]):
            took = [call(*line) for _ in range(7)]
            say(f"cnsctl {line[0]}", f"{statistics.median(took) * 1000:.0f} ms")


def call(*args: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cnsctl", *args], check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
