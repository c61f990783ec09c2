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

from cnsctl.formats.versions import check_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


FORMAT = 2
"""Version of training states. Format 1, without a seal, was never released."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainState:
    """Everything that the next step depends on, apart from the job itself."""

    step: int
    """Steps done."""
    parts: Mapping[str, str]
    """What the job consists of: a state of another job is not resumed."""
    losses: tuple[float, ...]
    tensors: Mapping[str, torch.Tensor]
    """Token embeddings, values, their moments, and the mask."""


class DamagedState(ValueError):
    """The bytes are not those that were written."""


def state_to_bytes(state: TrainState) -> bytes:
    tensors = {name: t.detach().cpu().contiguous() for name, t in state.tensors.items()}
    return _sealed(tensors, {"format": FORMAT, "step": state.step, "parts": dict(state.parts), "losses": state.losses})


def state_from_bytes(data: bytes) -> TrainState | None:
    """The state, or None if it is of a format that was never released.

    Raises:
        DamagedState: a bit differs from what was written.
        FormatTooNewError: written by a newer cnsctl.
    """
    meta, tensors = _read(data)
    try:
        check_version(meta.get("format"), FORMAT, "the training state")
    except ValueError as err:
        raise DamagedState(str(err)) from err
    if meta["format"] != FORMAT:
        return None
    return TrainState(step=int(meta["step"]), parts=meta["parts"], losses=tuple(meta["losses"]), tensors=tensors)


def masks_to_bytes(masks: Mapping[str, torch.Tensor]) -> bytes:
    """Boolean masks, eight entries to a byte."""
    return _sealed({s: torch.from_numpy(np.packbits(m.cpu().numpy().reshape(-1))) for s, m in masks.items()}, {})


def masks_from_bytes(data: bytes, *, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor] | None:
    """The masks, or None if the bytes are damaged or the shapes differ."""
    try:
        _, packed = _read(data)
    except DamagedState:
        return None
    sizes = {site: (math.prod(shape) + 7) // 8 for site, shape in shapes.items()}
    if {s: (t.dtype, tuple(t.shape)) for s, t in packed.items()} != {s: (torch.uint8, (n,)) for s, n in sizes.items()}:
        return None
    return {
        s: torch.from_numpy(np.unpackbits(packed[s].numpy(), count=math.prod(shape)).reshape(shape).astype(bool))
        for s, shape in shapes.items()
    }


def latents_to_bytes(latents: Sequence[torch.Tensor], *, key: str) -> bytes:
    """Latents of images, which may differ in shape, with the key of what they were made from."""
    return _sealed({f"{i:06}": latent.contiguous().clone() for i, latent in enumerate(latents)}, {"key": key})


def latents_from_bytes(data: bytes, *, key: str) -> list[torch.Tensor] | None:
    """The latents, or None if the bytes are damaged or were made from something else."""
    try:
        meta, tensors = _read(data)
    except DamagedState:
        return None
    return [tensor for _, tensor in sorted(tensors.items())] if meta.get("key") == key else None


def is_intact(data: bytes) -> bool:
    """Are these the bytes of a training state or of latents, to the bit?"""
    try:
        _read(data)
    except DamagedState:
        return False
    return True


_UNSEALED = "0" * 64


def _sealed(tensors: Mapping[str, torch.Tensor], meta: Mapping[str, object]) -> bytes:
    """A safetensors file whose metadata contains the SHA-256 of the whole file, as it is with zeros in that place."""
    text = json.dumps({**meta, "sha256": _UNSEALED}, sort_keys=True)
    data = bytes(safetensors.torch.save(dict(tensors), metadata={"cnsctl": text}))
    seal = hashlib.sha256(data).hexdigest().encode("ascii")
    at = data.index(_UNSEALED.encode("ascii"))
    return b"".join((data[:at], seal, data[at + len(seal) :]))


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Metadata and tensors.

    Raises:
        DamagedState: the bytes are not what was written.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        header: dict[str, Any] = json.loads(data[8 : 8 + size])
        meta = json.loads(header["__metadata__"]["cnsctl"])
        seal = str(meta["sha256"]).encode("ascii")
        at = data.index(seal)
        unsealed = _UNSEALED[: len(seal)].encode("ascii")
        if _digest(data[:at], unsealed, memoryview(data)[at + len(seal) :]) != seal.decode("ascii"):
            raise DamagedState("its content does not match its SHA-256")
        return meta, safetensors.torch.load(data)
    except (ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as err:
        raise DamagedState(str(err)) from err


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
