"""CLIP for metrics: the base model's own, if its folder contains an image encoder.

Owns loading and features; must not know what is compared.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError

from cnsctl.bases.libraries import quiet_libraries
from cnsctl.bases.part_files import CLIP_PROJECTION, has_clip
from cnsctl.bases.unreadable import naming
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class ClipTowers:
    """A CLIP in fp32, on the CPU or the base model's device. Scores of different CLIPs must not be compared."""

    def __init__(self, folder: Path, *, name: str, device: torch.device) -> None:
        quiet_libraries()
        from safetensors.torch import load_file
        from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

        options = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32}
        parts = [folder / name for name in ("image_encoder", "text_encoder", "tokenizer", "feature_extractor")]
        files = (path for part in parts for path in sorted(part.iterdir()) if path.is_file())
        try:
            with naming(chain(files, [folder / CLIP_PROJECTION])):
                self._vision = CLIPVisionModelWithProjection.from_pretrained(parts[0], **options)
                self._text = CLIPTextModel.from_pretrained(parts[1], **options)
                self._tokenizer = CLIPTokenizer.from_pretrained(parts[2], local_files_only=True)
                self._processor: Any = CLIPImageProcessor.from_pretrained(parts[3], local_files_only=True)
                self._projection = load_file(folder / CLIP_PROJECTION)["text_projection.weight"].float().to(device)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as err:
            raise BaseModelError(
                f"cannot load the CLIP of {folder}: {err}", hint="restore the folder of the base model"
            ) from err
        self.backbone = f"{name}-clip"
        self.device = device
        self._vision.to(device).eval()
        self._text.to(device).eval()

    @torch.no_grad()
    def images(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Unit features of images (h, w, 3) uint8: (n, d)."""
        found = []
        for image in pixels:  # one at a time: the features of an image do not depend on its batch
            x = self._processor(images=image, return_tensors="pt")["pixel_values"]
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
    """The CLIP in the folder of a base model, or None if it has none: then CLIP scores are null."""
    if not has_clip(folder):
        return None
    return ClipTowers(folder, name=name, device=device)
