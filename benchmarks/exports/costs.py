"""Time of a fit and sizes of files at the size of published base models, with random weights and features.

Owns these figures; must not know files of concepts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from benchmarks.exports.tables import RANKS, Line
from benchmarks.shapes import CONFIGS, SHAPES
from cnsctl.engine import lora_fit
from cnsctl.engine.feature_moments import Moments
from cnsctl.engine.seeds import stream
from cnsctl.export_formats import DEFAULT_KEYS
from cnsctl.formats import lora, lora_exact, tensor_file
from cnsctl.formats.contents import Factors

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN_TOKENS, OTHER_TOKENS = 512, 4000
"""Random features; those of real texts span fewer directions, so this is an upper limit."""


def costs() -> Iterator[Line]:
    """Seconds of a fit without encoding texts, and bytes of LoRA files, per published base model."""
    for shape in ("sd15", "sdxl"):
        sites = _sites(shape)
        columns = next(iter(sites.values()))[1]
        random = stream("costs", shape)
        began = time.perf_counter()
        target = lora_fit.target(
            Moments(
                own={"dog": _moment(OWN_TOKENS, columns, random)},
                words=_moment(OTHER_TOKENS, columns, random),
                frame=_moment(OTHER_TOKENS, columns, random),
            )
        )
        seconds = {"moments and target, s": time.perf_counter() - began}
        began = time.perf_counter()
        for size in sites.values():
            lora_fit.fit({"dog": torch.randn(size, generator=random)}, target)
        seconds["all sites, s"] = time.perf_counter() - began
        yield Line(name=SHAPES[shape], figures={"sites": float(len(sites)), **seconds, **_megabytes(sites)})


def _sites(shape: str) -> dict[str, tuple[int, int]]:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(CONFIGS / shape / "unet"))
    return {
        name.removesuffix(".weight"): (W.shape[0], W.shape[1])
        for name, W in unet.named_parameters()
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }


def _moment(tokens: int, columns: int, random: torch.Generator) -> torch.Tensor:
    x = torch.randn((tokens, columns), generator=random, dtype=torch.float64)
    return x.T @ x / tokens


def _megabytes(sites: Mapping[str, tuple[int, int]]) -> dict[str, float]:
    ranks = {f"rank {rank}, MB": rank for rank in RANKS} | {"`lora-exact`, MB": lora_exact.rank_of(sites)}
    found = {}
    for name, rank in ranks.items():
        tensors = lora.factor_tensors(sites, _never, rank, DEFAULT_KEYS)
        found[name] = tensor_file.byte_size(tensors, {}) / 1e6
    return found


def _never(site: str) -> Factors:
    raise AssertionError(site)  # sizes are known before a tensor is made
