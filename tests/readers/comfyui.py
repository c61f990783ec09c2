"""How ComfyUI reads a LoRA and an embedding, from its rules; no code of it.

Sources: `comfy/lora.py` (`load_lora`, `model_lora_keys_unet`) and `comfy/sd1_clip.py` (`load_embed`) of
comfyanonymous/ComfyUI, read at 00728eb20fce and, for `.diff`, at 17358c8f.

- A key's stem is `lora_unet_` and the path of a weight of the UNet under diffusers' names, `.` as `_`; or
  `unet.` and the same path with `processor` before the projection. Keys of other stems are logged and ignored.
- `<stem>.lora_up.weight` and `.lora_down.weight` add strength · alpha / rank · up · down; without `<stem>.alpha`, without
  alpha / rank. Rank is the number of rows of `lora_down`.
- `<stem>.diff` adds strength · diff, and only if its shape is that of the weight.
- An embedding is `embedding:NAME` in a prompt, NAME the file without its suffix. Of the tensors, the one that is called
  `clip_l` or `clip_g`, by the text encoder; else the first. It has one dimension, or a row for each token.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

Shapes = Mapping[str, tuple[int, ...]]


def lora(path: Path, shapes: Shapes) -> tuple[dict[str, torch.Tensor], set[str]]:
    """What a file adds at strength 1 to each weight of a UNet (diffusers' names without `.weight`), and keys not read."""
    file, found, read = load_file(path), {}, set()
    for site, shape in shapes.items():
        for stem in (f"lora_unet_{site.replace('.', '_')}", f"unet.{site.replace('.to_', '.processor.to_')}"):
            up, down, alpha, diff = (f"{stem}.{end}" for end in ("lora_up.weight", "lora_down.weight", "alpha", "diff"))
            if up in file:
                scale = file[alpha].item() / len(file[down]) if alpha in file else 1.0
                found[site] = scale * file[up].float() @ file[down].float()
                read |= {up, down, alpha}
            if diff in file and tuple(file[diff].shape) == tuple(shape):
                found[site] = file[diff].float()
                read.add(diff)
    return found, set(file) - read


def embedding(path: Path, key: str) -> tuple[str, torch.Tensor]:
    """What a prompt contains, and the rows of the text encoder with this key: `clip_l` or `clip_g`."""
    file = load_file(path)
    table = file.get(key, next(iter(file.values())))
    return f"embedding:{path.stem}", table.reshape(-1, table.shape[-1])
