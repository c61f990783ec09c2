"""Training states and caches as bytes: safetensors, never pickle. They may be deleted and computed again.

Owns this format; must not know where the bytes are stored.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.torch
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainState:
    """Everything that the next step depends on, apart from the job itself."""

    step: int
    """Steps done."""
    job: str
    """Hash of the job: a state of another job is not resumed."""
    losses: tuple[float, ...]
    tensors: Mapping[str, torch.Tensor]
    """Token embeddings, values, their moments, and the mask."""


def state_to_bytes(state: TrainState) -> bytes:
    tensors = {name: t.detach().cpu().contiguous() for name, t in state.tensors.items()}
    known = {"format": 1, "step": state.step, "job": state.job, "losses": state.losses, "sha256": _digest(tensors)}
    meta = json.dumps(known, sort_keys=True)
    return bytes(safetensors.torch.save(tensors, metadata={"cnsctl": meta}))


def state_from_bytes(data: bytes, *, job: str) -> TrainState | None:
    """The state, or None if the bytes are damaged, of another format or of another job: training starts at step 0."""
    read = _read(data)
    if read is None:
        return None
    meta, tensors = read
    if meta.get("format") != 1 or meta.get("job") != job:
        return None
    return TrainState(step=int(meta["step"]), job=job, losses=tuple(meta["losses"]), tensors=tensors)


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()


def masks_to_bytes(masks: Mapping[str, torch.Tensor]) -> bytes:
    """Boolean masks, eight entries to a byte."""
    packed = {s: torch.from_numpy(np.packbits(m.cpu().numpy().reshape(-1))) for s, m in masks.items()}
    meta = json.dumps({"sha256": _digest(packed)})
    return bytes(safetensors.torch.save(packed, metadata={"cnsctl": meta}))


def masks_from_bytes(data: bytes, *, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor] | None:
    """The masks, or None if the bytes are damaged or the shapes differ."""
    read = _read(data)
    if read is None:
        return None
    packed = read[1]
    sizes = {site: (math.prod(shape) + 7) // 8 for site, shape in shapes.items()}
    if {s: (t.dtype, tuple(t.shape)) for s, t in packed.items()} != {s: (torch.uint8, (n,)) for s, n in sizes.items()}:
        return None
    return {
        s: torch.from_numpy(np.unpackbits(packed[s].numpy(), count=math.prod(shape)).reshape(shape).astype(bool))
        for s, shape in shapes.items()
    }


def latents_to_bytes(latents: Sequence[torch.Tensor], *, key: str) -> bytes:
    """Latents of images, which may differ in shape, with the key of what they were made from."""
    tensors = {f"{i:06}": latent.contiguous().clone() for i, latent in enumerate(latents)}
    meta = json.dumps({"key": key, "sha256": _digest(tensors)}, sort_keys=True)
    return bytes(safetensors.torch.save(tensors, metadata={"cnsctl": meta}))


def latents_from_bytes(data: bytes, *, key: str) -> list[torch.Tensor] | None:
    """The latents, or None if the bytes are damaged or were made from something else."""
    read = _read(data)
    if read is None or read[0].get("key") != key:
        return None
    return [tensor for _, tensor in sorted(read[1].items())]


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """Metadata and tensors, or None if the bytes are not what was written."""
    try:
        size = int.from_bytes(data[:8], "little")
        header: dict[str, Any] = json.loads(data[8 : 8 + size])
        meta = json.loads(header["__metadata__"]["cnsctl"])
        tensors = safetensors.torch.load(data)
        intact = meta["sha256"] == _digest(tensors)
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError):
        return None
    return (meta, tensors) if intact else None
