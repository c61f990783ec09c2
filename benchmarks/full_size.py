"""Costs at the size of a published base model, on random weights: `python -m benchmarks.costs --shape sd15|sd21|sdxl`.

    init            reads and hashes the base model
    scoring         the general neurons, and the neurons of one concept
    training step   batch size 1, at the base model's resolution or `--size`
    denoising step  two images: with guidance
    apply           K and V of a text with a concept
    delta           bytes on disk
    peak            memory of one training step at batch size 1, without what is imported, per setting of `--memory`

The peak is measured in a process of its own: on CUDA what torch has allocated; on CPUs the resident memory above that
after the imports, from /proc. A CPU has no second memory, in which text encoders and decoder could wait. So their bytes are
printed and left out of the ratio. On a card they come to the device for their own calls, one at a time, while the
denoiser keeps no activations.

Activations: what autograd keeps of the forward pass for the backward pass; with gradient checkpointing the borders of
blocks. The goals are peaks without them, as ratios to the denoiser's weights in bf16.

Owns these measurements; must not know how the savings are made.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.shapes import SHAPES, write_published
from cnsctl.bases import base_folder, devices, registry
from cnsctl.bases.memory_estimate import PLANS
from cnsctl.concept import Delta, Mode, Prompt
from cnsctl.data.prompt_templates import calibration_texts, training_texts
from cnsctl.engine import neurons, train
from cnsctl.engine.concepts import to_concept
from cnsctl.engine.job import Job
from cnsctl.engine.overlay import EMPTY, Overlay, joined, stacked, text_keys_values
from cnsctl.engine.trainer import Trainer
from cnsctl.formats import delta as delta_file
from cnsctl.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from cnsctl.bases.loaded import LoadedBase

GOALS = {"sd15": 1.35, "sdxl": 1.6}
"""Peak with `lowest`, without activations, as a ratio to the denoiser's weights in bf16."""


TIMED_WITH = {"sd15": "auto", "sd21": "auto", "sdxl": "low"}
"""The setting of `--memory` of the times: the fastest that fits into 24 GB in fp32."""


def main(
    shape: str,
    *,
    dtype: str,
    size: int | None,
    times_dtype: str | None = None,
    peak_size: int | None = None,
    peak_alone: bool = False,
) -> None:
    """Print every figure as a line, and as JSON on the last one.

    Args:
        shape: which base model.
        dtype: of the peaks, and of the times too if `times_dtype` is None.
        size: pixels per side; None for the base model's own.
        peak_size: pixels per side for the peaks; None for the same.
        peak_alone: measure the peak with `lowest`, and nothing else.
        times_dtype: of the times. CPUs without bf16 instructions compute bf16 many times more slowly than fp32.
    """
    device, number = devices.choose("auto", "bf16" if dtype == "auto" else dtype)
    card = f" ({torch.cuda.get_device_name()})" if device.type == "cuda" else ""
    found: dict[str, Any] = {
        "shape": shape,
        "model": SHAPES[shape],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "computing": f"{device}{card}, {devices.dtype_name(number)}, {torch.get_num_threads()} threads",
    }
    with tempfile.TemporaryDirectory() as kept:
        folder = write_published(Path(kept) / shape, shape)
        found["size"] = size or base_folder.open_folder(folder).size
        for name in ("shape", "machine", "computing", "size"):
            say(name, found[name])
        common: tuple[str, ...] = (
            "--folder",
            str(folder),
            "--dtype",
            devices.dtype_name(number),
            "--size",
            str(found["size"]),
        )
        timed = devices.dtype_name(number) if times_dtype is None else times_dtype
        if not peak_alone:
            found["times in"] = f"{timed}, --memory {TIMED_WITH[shape]}"
            say("times in", found["times in"])
            found |= measured("times", *common, "--dtype", timed, "--memory", TIMED_WITH[shape])
            for name, unit in TIMES.items():
                say(name, f"{found[name]:,.2f} {unit}" if unit == "s" else f"{found[name]:,} {unit}")
        found["peak size"] = peak_size or found["size"]
        say("peak size", found["peak size"])
        common += ("--size", str(found["peak size"]))
        found["memory"] = {
            memory: measured("peak", *common, "--memory", memory)
            for memory in PLANS
            if not peak_alone or memory == "lowest"
        }
    for memory, row in found["memory"].items():
        say(f"memory {memory}", peak_in_words(row, GOALS.get(shape) if memory == "lowest" else None))
    say("json", json.dumps(found))


TIMES = {
    "init": "s",
    "scoring": "s",
    "training step": "s",
    "denoising step": "s",
    "apply": "s",
    "delta": "bytes",
}


def peak_in_words(row: dict[str, int], goal: float | None) -> str:
    """A row of the measurement of memory."""
    text = (
        f"peak {row['peak'] / 1e9:.2f} GB, of it activations {row['activations'] / 1e9:.2f} GB; "
        f"without them {ratio(row):.2f} × the denoiser in bf16 ({row['denoiser'] / 1e9:.2f} GB)"
    )
    waiting = f"; waiting parts, left out: {row['waiting'] / 1e9:.2f} GB" if row["waiting"] else ""
    met = "" if goal is None else f"; goal at most {goal:g}: {'met' if ratio(row) <= goal else 'missed'}"
    return text + waiting + met


def ratio(row: dict[str, int]) -> float:
    """Peak without activations to the denoiser's weights in bf16."""
    return (row["peak"] - row["activations"]) / row["denoiser"]


def say(what: str, figure: object) -> None:
    print(f"{what:15} {figure}", flush=True)  # noqa: T201  a benchmark's answer


RETURNED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17), "MALLOC_TRIM_THRESHOLD_": str(1 << 17)}
"""Environment in which glibc gives freed memory back at once: a peak is then what is allocated, as on a card."""


def measured(what: str, *options: str) -> dict[str, Any]:
    """A measurement in a process of its own."""
    environment = {**os.environ, **(RETURNED if what == "peak" else {})}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.full_size", what, *options],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# ------------------------------------------------------------------ one process


def child() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("times", "peak"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--memory", choices=PLANS, default="lowest")
    options = parser.parse_args()
    work = {"times": times, "peak": peak}[options.what]
    sys.stdout.write(json.dumps(work(options.folder, options.dtype, options.size, options.memory)) + "\n")


def loaded(folder: Path, dtype: str, memory: str, *, hash_weights: bool = False) -> LoadedBase:
    device, number = devices.choose("auto", dtype)
    base: Any = registry.load(
        base_folder.open_folder(folder), device=device, dtype=number, hash_weights=hash_weights, plan=PLANS[memory]
    )
    return base  # type: ignore[no-any-return]


def job(base: LoadedBase, size: int, general: dict[str, torch.Tensor]) -> Job:
    """One random image; its latents are not made by the encoder, which has its own peak."""
    side = size // base.autoencoder.pixels_per_latent
    channels = int(base.autoencoder.vae.config.latent_channels)
    settings: dict[str, Any] = {**base.train_defaults, "batch_size": 1}
    return Job(
        name="dog", class_word="dog", latents=[torch.randn((channels, side, side))], texts=[training_texts("dog")],
        settings=TrainSettings(**settings), mode=Mode.TOKEN, prior=EMPTY, general=general,
        owned=neurons.packed(base, []),
    )  # fmt: skip


def trainer(base: LoadedBase, size: int) -> Trainer:
    found = Trainer(base, job(base, size, {}))
    found.train_on(neurons.random_neurons(base, budget=float(base.train_defaults["budget"]), seed=0))
    return found


def seconds(base: LoadedBase, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if base.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def times(folder: Path, dtype: str, size: int, memory: str) -> dict[str, Any]:
    """Seconds of each kind of work, and bytes of a delta."""
    began = time.perf_counter()
    base = loaded(folder, dtype, memory, hash_weights=True)
    found: dict[str, Any] = {"init": time.perf_counter() - began}
    general: dict[str, torch.Tensor] = {}
    found["general neurons"] = seconds(
        base,
        lambda: general.update({s: m.cpu() for s, m in neurons.general_neurons(base, calibration_texts()).items()}),
    )
    asked = job(base, size, general)
    start = Trainer(base, asked)
    mask: dict[str, torch.Tensor] = {}
    found["selection"] = seconds(
        base, lambda: mask.update(train.scored_neurons(base, asked, start.vectors, start.start))
    )
    found["scoring"] = found["general neurons"] + found["selection"]
    running = Trainer(base, asked)
    running.train_on(mask)
    if base.device.type == "cuda":
        running.step()  # the first call selects kernels
    found["training step"] = seconds(base, running.step)
    assert running.values is not None
    delta = Delta(
        shapes=dict(base.shapes),
        indices={s: m.cpu().numpy() for s, m in mask.items()},
        values={s: v.cpu().numpy().astype(np.float16) for s, v in running.values.by_site().items()},
        vectors={e: v.detach().cpu().numpy().astype(np.float16) for e, v in running.vectors.items()},
        class_word="dog", fingerprint=base.fingerprint, mode=Mode.TOKEN,
    )  # fmt: skip
    del running
    found["delta"], found["neurons"] = len(delta_file.write(delta)), delta.n_neurons
    overlay = Overlay(mode=Mode.TOKEN, concepts={"dog": to_concept(base, delta, key="dog")})
    prompt = Prompt(text="a dog on a beach", pieces=("a dog on a beach",))
    text = overlay.splice(base, training_texts("dog")[0])
    found["apply"] = seconds(base, lambda: text_keys_values(base, overlay, text))
    found["denoising step"] = denoising(base, prompt, size)
    return found


def denoising(base: LoadedBase, prompt: Prompt, size: int) -> float:
    """The second step of an image, without loading, texts and decoding."""
    from dataclasses import replace

    settings = replace(base.generate_defaults, steps=2, width=size, height=size)
    text, kv = text_keys_values(base, EMPTY, EMPTY.splice(base, prompt))
    with base.bind({s: x.to(base.dtype) for s, x in stacked([kv, kv]).items()}, joined([text, text])):
        samples = base.sample(settings, [torch.Generator().manual_seed(0)])
        next(samples)
        return seconds(base, lambda: next(samples))


def peak(folder: Path, dtype: str, size: int, memory: str) -> dict[str, int]:
    """Bytes of one training step."""
    imported = resident("VmRSS")
    base = loaded(folder, dtype, memory)
    parts = base.components
    waiting = [*parts.texts.modules, parts.vae]
    bytes_of = {id(m): sum(p.numel() * p.element_size() for p in m.parameters()) for m in (parts.denoiser, *waiting)}
    running = trainer(base, size)
    on_card = base.device.type == "cuda"
    if on_card:
        torch.cuda.reset_peak_memory_stats()
    else:
        ctypes.CDLL(None).malloc_trim(0)  # what loading has freed is not a need of the step
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins here
    running.step()
    top = torch.cuda.max_memory_allocated() if on_card else resident("VmHWM") - imported
    left_out = 0 if on_card or memory == "auto" else sum(bytes_of[id(m)] for m in waiting)
    return {
        "peak": top - left_out,
        "waiting": left_out,
        "denoiser": 2 * base.denoiser_weights,
        "activations": activations(base, running),
    }


def resident(what: str) -> int:
    """A field of /proc/self/status in bytes: VmRSS, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


def activations(base: LoadedBase, running: Trainer) -> int:
    """Bytes that autograd keeps of the denoiser's forward pass, without weights."""
    weights = {p.untyped_storage().data_ptr() for p in base.components.denoiser.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    latents = torch.stack(list(running.job.latents)).to(base.device)
    keys_values, text = running._keys_values([running.texts[0][0]])  # noqa: SLF001  what a step does
    with base.bind(keys_values, text), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer = base.denoise(latents, torch.tensor([500]))
    found = sum(kept.values())
    del answer
    return found


if __name__ == "__main__":
    child()
