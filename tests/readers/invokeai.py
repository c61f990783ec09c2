"""How InvokeAI recognizes and reads a LoRA and an embedding, from its rules; no code of it.

Sources: `model_manager/configs/lora.py`, `configs/textual_inversion.py`, `model_manager/util/model_util.py`,
`patches/layers/` and `app/util/ti_utils.py` of the package invokeai 6.14.2. Its own modules were run on the same files
once, with the same results (docs/how-to/use-in-invokeai.md).

- A LoRA has a key that begins with `lora_unet_`, `lora_te_`, `lora_te1_` or `lora_te2_`. Its base model follows from the
  columns of the first `…attn2_to_k` or `…attn2_to_v` with `lora_down.weight` or `diff`: 768 is SD 1, 1024 SD 2, 1280 and
  2048 SDXL. A key is divided at its first dot; the layer is the first half.
- `alpha` / rank · up · down, or up · down without alpha; `diff` as it is, whatever alpha.
- An embedding has `emb_params` or `clip_g`, or fewer than ten tensors. Its base model follows from the last dimension of
  these two, else from the *first* dimension of the first tensor: 768 is SD 1, 1024 SD 2, 1280 SDXL.
- In a prompt, `<NAME>` of letters, digits, `. , _ -` and spaces is an embedding, NAME the file without its suffix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

BASES = {768: "SD1", 1024: "SD2", 1280: "SDXL", 2048: "SDXL"}
TRIGGER = re.compile(r"<[a-zA-Z0-9., _-]+>")


def lora_base(path: Path) -> str | None:
    """The base model that a LoRA is recognized for."""
    for key, tensor in load_file(path).items():
        layer, _, part = key.partition(".")
        if re.fullmatch(r"lora_unet_.*_attn2_to_[kv]", layer) and part in ("lora_down.weight", "diff"):
            return BASES.get(tensor.shape[1])
    return None


def lora(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, torch.Tensor], set[str]]:
    """What a file adds at weight 1 to each weight, and the layers that the model does not have."""
    layers = {f"lora_unet_{site.replace('.', '_')}": site for site in shapes}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(path).items():
        layer, _, part = key.partition(".")
        parts.setdefault(layer, {})[part] = tensor
    found = {layers[layer]: _change(own) for layer, own in parts.items() if layer in layers}
    return found, set(parts) - set(layers)


def _change(own: dict[str, torch.Tensor]) -> torch.Tensor:
    if "lora_up.weight" not in own:
        return own["diff"].float()
    down = own["lora_down.weight"]
    scale = own["alpha"].item() / len(down) if "alpha" in own else 1.0
    return scale * own["lora_up.weight"].float() @ down.float()


def embedding_base(path: Path) -> str | None:
    """The base model that an embedding is recognized for."""
    file = load_file(path)
    if not {"emb_params", "clip_g"} & set(file) and len(file) >= 10:
        return None
    for key in ("emb_params", "clip_g"):
        if key in file:
            return BASES.get(file[key].shape[-1])
    return BASES.get(next(iter(file.values())).shape[0])


def triggers(prompt: str) -> list[str]:
    """The names of embeddings in a prompt."""
    return [found.strip("<>") for found in TRIGGER.findall(prompt)]
