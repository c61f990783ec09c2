"""Choosing what to save, by the memory that a device has free and the estimate of what a base model needs.

Owns that choice; must not know how the savings are made.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from cnsctl import __version__
from cnsctl.bases.memory_estimate import estimate
from cnsctl.errors import BaseModelError
from cnsctl.settings import Memory

if TYPE_CHECKING:
    import torch

    from cnsctl.bases.base_folder import BaseFolder


class Cache(Protocol):
    """Bytes by key that may be lost: a store."""

    def cached(self, key: str) -> bytes | None: ...

    def cache(self, key: str, data: bytes) -> None: ...


Work = Literal["add", "gen"]
"""Training, which may also generate; or only generating."""

SURELY = {"fp32": 8, "bf16": 4, "fp16": 4}
"""Memory, as a multiple of the files that are loaded, in which everything fits: then nothing is estimated, which takes seconds.

At SD 1.5's size and 512 × 512, the default batch of 4 takes 7.2 times the weights in fp16 to train in fp32.
"""

USABLE = 0.9
"""Share of the free memory that may be used."""


def choose(
    folder: BaseFolder,
    memory: Memory,
    *,
    device: torch.device,
    dtype: str,
    work: Work,
    batch_size: int,
    cache: Cache,
    began: Memory | None = None,
) -> tuple[Memory, str | None]:
    """What to save, where `auto` is nothing, and for a person why, if `auto` had to choose.

    Args:
        folder: of the base model.
        memory: the user's setting.
        device: where it computes.
        dtype: precision of the denoiser.
        work: what it is loaded for.
        batch_size: images per training step.
        cache: of estimates.
        began: what a training run that is resumed saved; `auto` chooses it again, so that the run ends bit-identical.
    """
    if memory is not Memory.AUTO:
        return memory, None
    if began is not None:
        return began, None if began is Memory.AUTO else f"memory: {began}, as when the training began"
    free = free_bytes(device)
    if free is None or SURELY[dtype] * folder.loaded_bytes < free:
        return memory, None
    if (rows := _estimated(folder, dtype, cache)) is None:
        return memory, None
    needed = {}
    for name, (one, more, gen) in rows.items():
        needed[name] = gen if work == "gen" else max(gen, one + (batch_size - 1) * more)
    name = Memory(next((name for name, size in needed.items() if size <= USABLE * free), list(needed)[-1]))
    figures = f"about {needed[name] / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free on {device}"
    if name is Memory.AUTO:
        return name, f"memory: everything fits ({figures})"
    doubt = "" if needed[name] <= USABLE * free else "; that may be too little"
    return name, f"memory: chose {name} ({figures}{doubt})"


def _estimated(folder: BaseFolder, dtype: str, cache: Cache) -> dict[str, tuple[int, int, int]] | None:
    """By setting: bytes of a training step with one image, of each further image, and of generating.

    None if the denoiser cannot be followed.
    """
    files = [folder.path / part.name / "config.json" for part in folder.family.parts]
    digest = hashlib.sha256(json.dumps([__version__, dtype, folder.size, dict(folder.train)], default=str).encode())
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"-")
    key = f"memory-{digest.hexdigest()[:24]}"
    if (known := cache.cached(key)) is not None:
        return {name: (row[0], row[1], row[2]) for name, row in json.loads(known).items()}
    try:
        found = estimate(folder, dtype=dtype)
    except BaseModelError:
        return None
    others = max(1, found.batch_size - 1)
    rows = {row.memory: (row.add_one, (row.add - row.add_one) // others, row.gen) for row in found.memory}
    cache.cache(key, json.dumps(rows).encode())
    return rows


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a device; None if the system does not say it. The caches of a CPU's files count as free."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
