"""The weights folder: what stock diffusers loads, plus the image tower for metrics, in half precision.

Owns that folder's contents; must not know how its parts were trained.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from pocket.training import models
from pocket.training.events import Event
from pocket.training.latents import latents_scale
from pocket.training.work import replace_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pocket.training.work import Work


def pack(work: Work, out: Path) -> Iterator[Event]:
    """Write the weights folder; an older one stays until the new one is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_folder(out, lambda folder: _write(work, folder))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    yield Event(stage="pack", text=f"wrote {out}", numbers={"mib": size / 2**20})


def _write(work: Work, folder: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    models.pipeline_of(work, latents_scale(work)).to(dtype=torch.float16).save_pretrained(folder)
    clip = models.clip_to_use(work)
    weights = clip.state_dict()
    tower = CLIPVisionModelWithProjection(clip.config.vision_config)
    of_tower = ("vision_model.", "visual_projection.")
    tower.load_state_dict({key: value for key, value in weights.items() if key.startswith(of_tower)})
    tower.half().save_pretrained(folder / "image_encoder")
    rest = {key: weights[key].half().contiguous() for key in ("text_projection.weight", "logit_scale")}
    save_file(rest, folder / "text_projection.safetensors", metadata={"format": "pt"})
    CLIPImageProcessor(
        size={"shortest_edge": 128},
        crop_size={"height": 128, "width": 128},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(folder / "feature_extractor")
    for path in sorted(folder.rglob("*config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)  # it says where the weights were made
        path.write_text(json.dumps(config, indent=2), encoding="utf-8")
