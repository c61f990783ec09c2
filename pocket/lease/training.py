"""The run on the rented GPU: new scenes, their latents, then the UNet until the time is up; a set every minute."""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from pocket.errors import PocketError
from pocket.lease.parcel import put, sha256
from pocket.training.learner import best_weights
from pocket.training.models import UNET_STATE
from pocket.training.plan import trained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pocket.training.events import Event
    from pocket.training.plan import TrainSpec

STAGES = ("render", "latents", "unet")

SCENES_A_MINUTE, SCENES_A_MINUTE_GPU = 500, 12_000
"""Scenes for each minute of the run: rendering and encoding them takes about a tenth of it (H100, 16 cores)."""

WRITING_S = 10
"""Left for the last state and the last set."""

UNET = "unet/diffusion_pytorch_model.safetensors"


def leased(spec: TrainSpec, out: Path) -> Iterator[Event]:
    """Train as specified, and put the averaged weights into a folder whenever a state has been written.

    They are also put there when training is interrupted or fails.

    Args:
        spec: its stages are those of a lease; its minutes end when the last file is written.
        out: folder whose files come back.

    Raises:
        PocketError: the time was too short for a training step.
    """
    sender = _Sender(spec, out)
    events = trained(replace(spec, minutes=spec.minutes - WRITING_S / 60, margin_s=0.0))
    try:
        for event in events:
            sender.note(event)
            yield event
            sender.send()
        if not sender.has_sent:
            raise PocketError("nothing was trained: rendering took all the time", hint="give fewer --scenes")
    finally:
        events.close()  # writes the state if training is in progress
        sender.send()


def weights_file(state: Path) -> tuple[bytes, dict[str, Any]]:
    """The averaged weights of a state as stock diffusers stores them, in half precision, and the state's notes.

    Raises:
        PocketError: they contain NaN or Inf.
    """
    weights, notes = best_weights(state)
    halves = {key: value.half().contiguous() for key, value in weights.items()}
    if not all(bool(torch.isfinite(value).all()) for value in halves.values()):
        raise PocketError(f"the weights contain NaN or Inf after {notes['step']} steps", hint="lower --rate-scale")
    return save(halves, metadata={"format": "pt"}), notes


class _Sender:
    """Puts each new state's weights where they come back from, with a record of the run so far."""

    def __init__(self, spec: TrainSpec, out: Path) -> None:
        self._spec = spec
        self._out = out
        self._state = spec.work / UNET_STATE
        self._sent = self._written()
        self.has_sent = False
        self._started = time.monotonic()
        self._log: list[dict[str, Any]] = []

    def note(self, event: Event) -> None:
        if event.numbers:
            seconds = round(time.monotonic() - self._started, 1)
            self._log.append({"s": seconds, "stage": event.stage, "step": event.step, **event.numbers})

    def send(self) -> None:
        """Put the weights of the state on disk there, unless they are there already or nothing was trained."""
        if self._written() == self._sent:
            return
        self._sent = self._written()
        blob, notes = weights_file(self._state)
        if notes["seen"] > 0:
            self.has_sent = True
            put(self._out, blob, self._record(notes), stage=self._spec.work / "set")

    def _written(self) -> int:
        return self._state.stat().st_mtime_ns if self._state.is_file() else 0

    def _record(self, notes: dict[str, Any]) -> dict[str, Any]:
        assert self._spec.init is not None
        on_cuda = self._spec.device.startswith("cuda")
        packages = ("torch", "diffusers", "transformers")
        return {
            "start_sha256": sha256((self._spec.init / UNET).read_bytes()),
            "samples": notes["seen"],
            "steps": notes["step"],
            "minutes": round((time.monotonic() - self._started) / 60, 2),
            "scenes": self._spec.n_scenes,
            "device": torch.cuda.get_device_name() if on_cuda else self._spec.device,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
            "log": self._log,
        }
