"""Choosing the device and the precision to compute with: by capability, never by measured speed.

Owns that choice; must not know models.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cnsctl.errors import UsageError
from cnsctl.settings import ComputeSettings, Device, Dtype, complete

if TYPE_CHECKING:
    import torch


def choose(device: Device | str = Device.AUTO, dtype: Dtype | str = Dtype.AUTO) -> tuple[torch.device, torch.dtype]:
    """Resolve `auto`, and refuse what the machine does not have.

    `auto` is bf16 on CUDA devices that compute in it, else fp32. On CPUs it is always fp32: with AVX512-BF16, training
    on pocket took 20.6 s in bf16 and 21.2 s in fp32; without, emulated bf16 was 18 times slower; and fp32 images agree
    between machines. fp16 is for generating on GPUs; training refuses it.

    Raises:
        InvalidSettingError: the device or the dtype is unknown.
        UsageError: this machine does not have the device, or cannot compute in the dtype.
    """
    import torch

    wanted: ComputeSettings = complete(ComputeSettings, {}, {"device": device, "dtype": dtype})
    device, dtype = wanted.device, wanted.dtype

    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = Device(next(name for name, there in has.items() if there))
        if device == "cuda" and (index := os.environ.get("LOCAL_RANK")) is not None:  # one of several processes
            device = Device(f"cuda:{index}")
    kind, _, number = device.partition(":")
    if not has[kind]:
        raise UsageError(
            f"device not available: {device}", note="on this machine, or in this build of torch", reason="device"
        )
    if number and int(number) >= (count := torch.cuda.device_count()):
        there = ", ".join(f"cuda:{i}" for i in range(count))
        raise UsageError(f"device not available: {device}", note=f"there are: {there}", reason="device")
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if dtype == "auto":
        fast = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = Dtype.BF16 if fast else Dtype.FP32
    if dtype == "fp16" and kind == "cpu":
        raise UsageError("cannot compute in fp16 on a CPU: slow and inexact", reason="fp16-cpu")
    if kind == "cuda":
        # the same seed must give the same delta; cuBLAS reads this variable at its first call
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device(device), types[dtype]


def dtype_name(dtype: torch.dtype) -> str:
    """`fp32`, `bf16` or `fp16`."""
    return {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[str(dtype).removeprefix("torch.")]


def names() -> tuple[str, ...]:
    """All devices of this machine, with what they are called and how much memory they have."""
    import torch

    found = [
        f"cuda:{i} {torch.cuda.get_device_name(i)}, {torch.cuda.get_device_properties(i).total_memory / 1e9:.0f} GB"
        for i in range(torch.cuda.device_count())
    ]
    found += ["mps"] if torch.backends.mps.is_available() else []
    return (*found, "cpu")
