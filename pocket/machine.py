"""What the processor can do: device, number format, and the settings that make it fast.

Owns the choice by capability, never by stopwatch; must not know what is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a stage computes."""

    device: str
    bf16: bool
    """Whether bfloat16 is computed rather than emulated (18 times slower than fp32 on AVX2)."""

    @property
    def is_gpu(self) -> bool:
        return self.device != "cpu"

    def amp(self) -> AbstractContextManager[Any]:
        """Mixed precision, where the processor has it."""
        return torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.bf16)

    def place(self, model: Any) -> Any:
        """A convolutional model on the device, channels last."""
        return model.to(self.device, memory_format=torch.channels_last)


def machine(device: str) -> Machine:
    """The machine for a device name: bf16 on every CUDA card, and on CPUs that compute it."""
    return Machine(device=device, bf16=cpu_has_bf16() if device == "cpu" else device.startswith("cuda"))


@contextmanager
def fast_numbers(threads: int | None = None) -> Iterator[None]:
    """Fast matrix products, no denormal numbers, so many CPU threads; all as before at the end."""
    before = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    tried, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before[0])
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before[1:]
        torch.backends.cudnn.benchmark = tried


def cpu_has_bf16() -> bool:
    """AMX tiles or AVX512-BF16."""
    asks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(ask is not None and ask() for ask in asks)
