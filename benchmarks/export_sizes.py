"""Bytes and seconds of each export format at full size: `python -m benchmarks.export_sizes`.

K and V have random weights in the published shapes, and one concept of the default budget changes them. The rest of a base
model is not needed. Files are written to a temporary folder and removed.

Owns this table; must not know stores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.shapes import CONFIGS, SHAPES
from cnsctl.export_formats import DEFAULT_KEYS
from cnsctl.formats import custom_diffusion, diff, embedding, kv, lora, lora_exact, tensor_file
from cnsctl.formats.contents import Factors, Outgoing, SiteWeights

if TYPE_CHECKING:
    from collections.abc import Iterator

RANKS = (2, 8, 32)
WHOLE = {"lora-exact": lora_exact, "diff": diff, "kv": kv, "custom-diffusion": custom_diffusion}
BUDGET = {"sd15": 0.0583, "sd21": 0.0440, "sdxl": 0.0098}
"""Share of the K/V weights that is 0.13 % of the denoiser."""


def main() -> None:
    """Print one table per shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: sd15 and sdxl")
    for shape in parser.parse_args().shape or ["sd15", "sdxl"]:
        sites = published_sites(shape)
        n_weights = sum(rows * columns for rows, columns in sites.values())
        say(f"{SHAPES[shape]}: {len(sites)} sites, {n_weights / 1e6:.2f} M K/V weights")
        for name, n_bytes, seconds in rows(shape, sites):
            say(f"  {name:<20} {n_bytes:>13,} bytes  {seconds:6.2f} s")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def published_sites(shape: str) -> dict[str, tuple[int, int]]:
    """Rows and columns of each K and V projection of a published UNet, without its weights."""
    from diffusers import UNet2DConditionModel

    config = json.loads((CONFIGS / shape / "unet" / "config.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    ends = ("attn2.to_k.weight", "attn2.to_v.weight")
    return {n.removesuffix(".weight"): (p.shape[0], p.shape[1]) for n, p in unet.named_parameters() if n.endswith(ends)}


def rows(shape: str, sites: dict[str, tuple[int, int]]) -> Iterator[tuple[str, int, float]]:
    """Name, bytes and seconds of each format."""
    yield "embedding", *written(embedding, outgoing(shape, sites))
    for rank in RANKS:
        yield f"lora, rank {rank}", *written(lora, outgoing(shape, sites, rank=rank))
    for name, module in WHOLE.items():
        yield name, *written(module, outgoing(shape, sites))


def outgoing(shape: str, sites: dict[str, tuple[int, int]], *, rank: int = 8) -> Outgoing:
    """A concept with random weights."""
    widths = {"text_encoder": 768, "text_encoder_2": 1280} if shape == "sdxl" else {"text_encoder": sites_width(sites)}
    return Outgoing(
        family="sdxl" if shape == "sdxl" else "sd1",
        width=sites_width(sites),
        prediction="epsilon",
        resolution=(1024, 1024) if shape == "sdxl" else (512, 512),
        shapes=sites,
        site=partial(weights, sites, BUDGET[shape]),
        factors=lambda site: factors(sites[site], rank),
        vectors={encoder: np.ones((1, width), np.float16) for encoder, width in widths.items()},
        token="<dog>",  # noqa: S106  of a prompt
        class_word="dog",
    )


def sites_width(sites: dict[str, tuple[int, int]]) -> int:
    return next(iter(sites.values()))[1]


def weights(sites: dict[str, tuple[int, int]], budget: float, site: str) -> SiteWeights:
    """Random weights in fp16, of which a share changes."""
    rng = np.random.default_rng(len(site))
    before = rng.standard_normal(sites[site], np.float32).astype(np.float16).astype(np.float32)
    after = before.copy()
    at = rng.integers(0, before.size, round(budget * before.size))
    after.reshape(-1)[at] = np.float16(0.5)
    return SiteWeights(before=before, after=after)


def factors(shape: tuple[int, int], rank: int) -> Factors:
    return Factors(down=np.ones((rank, shape[1]), np.float32), up=np.ones((shape[0], rank), np.float32))


def written(module: object, concept: Outgoing) -> tuple[int, float]:
    """Bytes of a file, and the seconds of writing it. Making random weights is a part of them."""
    with tempfile.TemporaryDirectory(prefix="cnsctl-") as folder:
        began = time.perf_counter()
        path = Path(folder) / "file.safetensors"
        with path.open("wb") as stream:
            tensors = module.tensors(concept, DEFAULT_KEYS)  # type: ignore[attr-defined]
            tensor_file.write(stream, tensors, module.metadata(concept, DEFAULT_KEYS))  # type: ignore[attr-defined]
        return path.stat().st_size, time.perf_counter() - began


if __name__ == "__main__":
    main()
