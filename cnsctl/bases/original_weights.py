"""The weights of one part of a single-file checkpoint, under diffusers' and transformers' names.

The renaming is diffusers' own (`diffusers.loaders.single_file_utils`).

Owns the way from the file into a module; must not know the families.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cnsctl.bases.single_file import is_open_clip, layers_left_out, open_single_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cnsctl.bases.family import Part
    from cnsctl.bases.single_file import SingleFile


def read_module(path: Path, folder: Path, part: Part, kind: Any) -> torch.nn.Module:
    """Load a part of a checkpoint.

    Args:
        path: the checkpoint.
        folder: the part's configuration.
        part: the family's declaration of it.
        kind: its class.

    Raises:
        ValueError: a weight is missing.
    """
    from accelerate import init_empty_weights

    file = open_single_file(path)
    own = _tensors(file, part.name)
    if part.name.startswith("text_encoder"):
        config = kind.config_class.from_pretrained(folder, local_files_only=True)
        with init_empty_weights():
            module: Any = kind(config)
        converted = _text_weights(file, part.name, module, own)
    else:
        config = kind.load_config(folder, local_files_only=True)
        with init_empty_weights():
            module = kind.from_config(config)
        if part.name == "unet":
            converted = _denoiser_weights(own, file.prefixes[part.name], module.config)
        else:
            converted = _vae_weights(own, module.config)
    dtype = stored_dtype(converted) if part.weights == "stored" else torch.float32
    # a copy, because the file is mapped: what is written to it later must not change the base model
    copied = {name: tensor.to(dtype, copy=True).contiguous() for name, tensor in converted.items()}
    try:
        absent = module.load_state_dict(copied, strict=False, assign=True).missing_keys
    except RuntimeError as err:  # its first line does not contain the reason
        raise ValueError(f"{part.name}: {str(err).splitlines()[-1].strip()}") from err
    if absent:
        raise ValueError(f"{len(absent)} weights of {part.name} are missing, such as {min(absent)}")
    loaded: torch.nn.Module = module.eval().requires_grad_(requires_grad=False)
    return loaded


def stored_dtype(tensors: Mapping[str, torch.Tensor]) -> torch.dtype:
    """The dtype of stored weights: half precision if all of them have it, else fp32."""
    kinds = {tensor.dtype for tensor in tensors.values()}
    return kinds.pop() if kinds in ({torch.float16}, {torch.bfloat16}) else torch.float32


def part_dtype(path: Path, part: str) -> torch.dtype:
    """The dtype of a part's weights in a checkpoint: half precision if all of them have it, else fp32."""
    return stored_dtype(_tensors(open_single_file(path), part))


def _tensors(file: SingleFile, part: str) -> dict[str, torch.Tensor]:
    """The weights of a part, under their names in the file."""
    from safetensors import safe_open

    prefix = file.prefixes[part]
    with safe_open(file.path, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in file.shapes if name.startswith(prefix)}


def _denoiser_weights(own: Mapping[str, torch.Tensor], prefix: str, config: Any) -> dict[str, torch.Tensor]:
    from diffusers.loaders.single_file_utils import LDM_UNET_KEY, convert_ldm_unet_checkpoint

    named = {f"{LDM_UNET_KEY}{name.removeprefix(prefix)}": tensor for name, tensor in own.items()}
    found: dict[str, torch.Tensor] = convert_ldm_unet_checkpoint(named, config)
    return found


def _vae_weights(own: Mapping[str, torch.Tensor], config: Any) -> dict[str, torch.Tensor]:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    found: dict[str, torch.Tensor] = convert_ldm_vae_checkpoint(dict(own), config)
    return found


def _text_weights(file: SingleFile, part: str, module: Any, own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    prefix = file.prefixes[part]
    if is_open_clip(file, part):
        left_out = f"{prefix}transformer.resblocks.{module.config.num_hidden_layers}."
        read = {n: t for n, t in own.items() if not (layers_left_out(file) and n.startswith(left_out))}
        found: dict[str, torch.Tensor] = convert_open_clip_checkpoint(module, read, prefix=prefix)
    else:
        found = {f"text_model.{name.removeprefix(prefix).removeprefix('text_model.')}": t for name, t in own.items()}
    found = {name: tensor for name, tensor in found.items() if not name.endswith("position_ids")}
    if hasattr(module, "text_model"):  # CLIPTextModel has no such level from transformers 5.6 on
        return found
    return {name.removeprefix("text_model."): tensor for name, tensor in found.items()}
