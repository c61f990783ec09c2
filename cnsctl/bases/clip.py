"""CLIP towers for metrics: a base's own, where its folder brings an image tower.

Owns loading and features; must not know which pictures or why.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError

from cnsctl.bases.libraries import quiet_libraries
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PROJECTION = "text_projection.safetensors"
"""Beside `image_encoder/`: makes a whole CLIP of the pipeline's text encoder and the image tower."""


class ClipTowers:
    """A whole CLIP in fp32, on the CPU or the base's device. Scores of different CLIPs are never compared."""

    def __init__(self, folder: Path, *, name: str, device: torch.device) -> None:
        quiet_libraries()
        from safetensors.torch import load_file
        from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

        options = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32}
        try:
            self._vision = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder", **options)
            self._text = CLIPTextModel.from_pretrained(folder / "text_encoder", **options)
            self._tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            self._processor: Any = CLIPImageProcessor.from_pretrained(
                folder / "feature_extractor", local_files_only=True
            )
            self._projection = load_file(folder / PROJECTION)["text_projection.weight"].float().to(device)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as err:
            raise BaseModelError(
                f"the CLIP of {folder} cannot be loaded: {err}", hint="restore the base's folder"
            ) from err
        self.backbone = f"{name}-clip"
        self.device = device
        self._vision.to(device).eval()
        self._text.to(device).eval()

    @torch.no_grad()
    def images(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Unit features of pictures (h, w, 3) uint8: (n, d)."""
        found = []
        for picture in pixels:  # one at a time: a score does not depend on what it is computed beside
            x = self._processor(images=picture, return_tensors="pt")["pixel_values"]
            found.append(F.normalize(self._vision(pixel_values=x.to(self.device)).image_embeds, dim=-1).cpu())
        return np.asarray(torch.cat(found).numpy(), dtype=np.float32)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit features of texts: (n, d)."""
        length = self._text.config.max_position_embeddings
        ids = self._tokenizer(list(texts), padding="max_length", max_length=length, truncation=True).input_ids
        pooled = self._text(torch.tensor(ids, device=self.device)).pooler_output
        return np.asarray(F.normalize(pooled @ self._projection.T, dim=-1).cpu().numpy(), dtype=np.float32)


@cache
def towers(folder: Path, *, name: str, device: torch.device) -> ClipTowers | None:
    """The CLIP that a base's folder brings, or None: then CLIP columns are null and everything else works."""
    parts = ("image_encoder/config.json", "feature_extractor/preprocessor_config.json", PROJECTION)
    if not all((folder / part).is_file() for part in parts):
        return None
    return ClipTowers(folder, name=name, device=device)
