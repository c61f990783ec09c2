"""The scenes as the denoiser sees them: encoded once, kept as half precision on disk.

Owns `z.npy` and `z.json`; must not know the denoiser.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pocket.errors import PocketError
from pocket.training import models
from pocket.training.events import Event
from pocket.training.render import scenes, scenes_id
from pocket.training.vae import latent_scale, to_pixels
from pocket.training.work import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pocket.machine import Machine
    from pocket.training.work import Work

UNSCALED = 0.18215
"""The factor that stock code puts where nobody gave one: such a VAE's scale is still to be measured."""

SAVE_S = 20


def encode_latents(work: Work, on: Machine) -> Iterator[Event]:
    """Encode all scenes, unless these scenes by this VAE are there; a part that is done is kept."""
    pictures = scenes(work)
    vae = on.place(models.vae_to_use(work))
    wanted = {"scenes": scenes_id(work), "vae": _digest(vae), "n_scenes": len(pictures)}
    record = read_json(work.path("z.json")) if work.has("z.json") else {}
    if not _fits(record, wanted):
        scale = vae.config.scaling_factor
        scale = latent_scale(vae, pictures, on) if abs(scale - UNSCALED) < 1e-9 else scale
        record = {**wanted, "scale": scale, "done": 0}
        shape = (len(pictures), vae.config.latent_channels, 16, 16)
        np.lib.format.open_memmap(work.path("z.npy"), "w+", np.float16, shape).flush()
        write_json(work.path("z.json"), record)
    yield from _encode(work, on, vae, pictures, record)
    yield Event(stage="latents", text="all there", numbers={"scenes": len(pictures), "scale": record["scale"]})


def latents(work: Work) -> tuple[torch.Tensor, float]:
    """Latents (n, 8, 16, 16) in half precision, and the factor that gives them unit variance.

    Raises:
        PocketError: they are not complete, of other scenes, or by another encoder.
    """
    record = read_json(work.path("z.json")) if work.has("z.json") else {"done": -1, "n_scenes": 0}
    if record["done"] < record["n_scenes"]:
        raise PocketError(f"the latents in {work.folder} are not complete", hint="run the stages render and latents")
    if not _fits(record, {"scenes": scenes_id(work), "vae": _digest(models.vae_to_use(work))}):
        raise PocketError(
            f"the latents in {work.folder} are of other scenes, or by another encoder", hint="run the stage latents"
        )
    return torch.from_numpy(np.load(work.path("z.npy"))), latents_scale(work)


def latents_scale(work: Work) -> float:
    """The factor alone; without latents, the VAE's own."""
    if work.has("z.json"):
        return float(read_json(work.path("z.json"))["scale"])
    return float(models.vae_to_use(work).config.scaling_factor)


def _fits(record: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the latents on disk are of these scenes by this encoder."""
    return all(record.get(key) == value for key, value in wanted.items())


@torch.no_grad()
def _encode(work: Work, on: Machine, vae: Any, pictures: NDArray[np.uint8], record: dict[str, Any]) -> Iterator[Event]:
    batch = 1024 if on.is_gpu else 32
    z = np.lib.format.open_memmap(work.path("z.npy"), "r+")
    first, start, saved = record["done"], time.monotonic(), time.monotonic()
    for i in range(first, len(pictures), batch):
        with on.amp():
            z[i : i + batch] = vae.encode(to_pixels(pictures[i : i + batch], on)).latent_dist.mean.half().cpu().numpy()
        done = min(len(pictures), i + batch)
        if done == len(pictures) or time.monotonic() - saved > SAVE_S:
            z.flush()
            record["done"], saved = done, time.monotonic()
            write_json(work.path("z.json"), record)
            speed = (done - first) / (time.monotonic() - start)
            yield Event(stage="latents", text=f"encoded {done} scenes", numbers={"samples_per_s": speed})


def _digest(vae: Any) -> str:
    """Of the encoder alone: a better decoder leaves latents as they are."""
    encoder = ("encoder.", "quant_conv.")
    return models.digest({key: value for key, value in vae.state_dict().items() if key.startswith(encoder)})
