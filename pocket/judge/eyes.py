"""The base's own CLIP as a judge's eyes: pictures and captions as unit vectors.

Owns embedding; must not know what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from pocket.weights import clip_of, load_tokenizer, token_ids

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Eyes:
    """A CLIP and its tokenizer."""

    clip: Any
    tokenizer: Any
    device: str

    @torch.no_grad()
    def see(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Pictures (n of 128 × 128) as unit vectors (n, d), on the CPU."""
        vectors = []
        for i in range(0, len(pictures), BATCH):
            x = pixels(pictures[i : i + BATCH]).to(self.device)
            vectors.append(self.clip.visual_projection(self.clip.vision_model(pixel_values=x).pooler_output))
        return functional.normalize(torch.cat(vectors), dim=-1).cpu()

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> torch.Tensor:
        """Captions as unit vectors (n, d), on the CPU."""
        vectors = []
        for i in range(0, len(texts), 8 * BATCH):
            ids = token_ids(self.tokenizer, list(texts[i : i + 8 * BATCH])).to(self.device)
            vectors.append(self.clip.text_projection(self.clip.text_model(input_ids=ids).pooler_output))
        return functional.normalize(torch.cat(vectors), dim=-1).cpu()


def eyes_of(folder: Path, device: str = "cpu") -> Eyes:
    """The eyes that a weights folder brings along."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    return Eyes(clip=clip_of(folder, tokenizer).to(device).eval(), tokenizer=tokenizer, device=device)


def pixels(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures as models take them: (n, 3, h, w), fp32 in -1..1."""
    levels = torch.from_numpy(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))
    return levels.permute(0, 3, 1, 2).float() / 127.5 - 1
