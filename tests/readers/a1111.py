"""How A1111 reads a LoRA and an embedding, from its rules; no code of it. Forge reads LoRA files as ComfyUI does.

Sources: `extensions-builtin/Lora/network.py`, `network_lora.py`, `network_full.py`, `networks.py` and
`modules/textual_inversion/textual_inversion.py` of AUTOMATIC1111/stable-diffusion-webui.

- A key is divided at its first dot. The first half names the layer: `lora_unet_` and diffusers' path, which is translated
  to the original path. Layers that the model does not have are counted as unmatched.
- `lora_up.weight`, `lora_down.weight` and `alpha`: alpha / rank · up · down, or up · down without alpha. `diff`: as it is.
- The version of the base model is shown by its metadata: `ss_base_model_version` that begins with `sdxl_` is SDXL, `ss_v2`
  of "True" is SD 2, any other metadata is SD 1. `<lora:NAME:1>` takes the file's name or its `ss_output_name`.
- An embedding's name is the file without its suffix. A file has `clip_g` and `clip_l`, or one tensor. A prompt contains
  an embedding where its tokens are those of the name; of several that begin with the same token, the longest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file


def lora(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, torch.Tensor], set[str]]:
    """What a file adds at strength 1 to each weight, and the keys of layers that the model does not have."""
    layers = {f"lora_unet_{site.replace('.', '_')}": site for site in shapes}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    unmatched = set()
    for key, tensor in load_file(path).items():
        layer, _, part = key.partition(".")
        if layer in layers:
            parts.setdefault(layers[layer], {})[part] = tensor
        else:
            unmatched.add(key)
    return {site: _change(found, shapes[site]) for site, found in parts.items()}, unmatched


def _change(found: dict[str, torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    if "diff" in found:
        return found["diff"].float().reshape(shape)
    down = found["lora_down.weight"]
    scale = found["alpha"].item() / len(down) if "alpha" in found else 1.0
    return scale * found["lora_up.weight"].float() @ down.float()


def version(path: Path) -> str:
    """The base model that is shown for a LoRA."""
    with safe_open(path, "pt") as file:
        texts = file.metadata() or {}
    if texts.get("ss_base_model_version", "").startswith("sdxl_"):
        return "SDXL"
    return "SD2" if texts.get("ss_v2") == "True" else "SD1" if texts else "unknown"


def alias(path: Path) -> str:
    """What `<lora:…:1>` may contain instead of the file's name."""
    with safe_open(path, "pt") as file:
        return str((file.metadata() or {}).get("ss_output_name", path.stem))


def embeddings(paths: Sequence[Path], prompt: str, tokenizer: Any) -> list[str]:
    """The tokens of a prompt, with the name of an embedding where its tokens are."""
    known = {}
    for path in paths:
        file = load_file(path)
        assert len(file) == 1 or {"clip_g", "clip_l"} <= set(file)
        known[path.stem] = tokenizer(path.stem, add_special_tokens=False).input_ids
    ids, found, at = tokenizer(prompt, add_special_tokens=False).input_ids, [], 0
    while at < len(ids):
        here = [name for name, own in known.items() if ids[at : at + len(own)] == own]
        name = max(here, key=lambda n: len(known[n]), default=None)
        found.append(tokenizer.decode(ids[at]).strip() if name is None else f"[{name}]")
        at += 1 if name is None else len(known[name])
    return found
