"""Random weights in the shapes of published base models, to measure costs without the real weights.

Owns the shapes; must not know what is measured.
"""

from __future__ import annotations

import importlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import torch

import cnsctl.bases
from cnsctl.bases.base_folder import POCKET

CONFIGS = Path(cnsctl.bases.__file__).parent / "configs"
"""The published configurations."""

SHAPES = {"sd15": "Stable Diffusion 1.5", "sd21": "Stable Diffusion 2.1", "sdxl": "Stable Diffusion XL"}


def write_published(path: Path, shape: str) -> Path:
    """A folder with a published configuration and random weights in fp16; one tensor at a time is in memory."""
    shutil.copytree(CONFIGS / shape, path)
    index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
    for part, (library, name) in ((p, k) for p, k in index.items() if isinstance(k, list) and k[0] is not None):
        kind: Any = getattr(importlib.import_module(library), name)
        if "tokenizer" in part:
            tokenizer = kind.from_pretrained(POCKET / "tokenizer", local_files_only=True)  # with fewer words
            tokenizer.model_max_length = 77
            shutil.rmtree(path / part)
            tokenizer.save_pretrained(path / part)
        elif library == "diffusers" and part != "scheduler":
            with torch.device("meta"):
                module = kind.from_config(kind.load_config(path / part))
            _write_random(module, path / part / "diffusion_pytorch_model.safetensors")
        elif part.startswith("text_encoder"):
            with torch.device("meta"):
                module = kind(kind.config_class.from_pretrained(path / part))
            _write_random(module, path / part / "model.safetensors")
    return path


def _write_random(module: torch.nn.Module, file: Path) -> None:
    """Write a safetensors file as its format says: the length of the header, the header, the tensors."""
    header, end = {}, 0
    tensors = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    for name, tensor in tensors.items():
        size = tensor.numel() * 2
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    random = torch.Generator().manual_seed(0)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in tensors.items():
            out.write(_random(name, tensor.shape, random).numpy().tobytes())


def _random(name: str, shape: torch.Size, random: torch.Generator) -> torch.Tensor:
    """Weights that keep the scale of what passes through them; norms and biases as in a new model."""
    if len(shape) == 1:
        return (torch.ones if name.endswith("weight") else torch.zeros)(shape, dtype=torch.float16)
    inputs = max(1, shape[1:].numel())
    return torch.randn(shape, generator=random).mul_(inputs**-0.5).half()


def write_sd1(path: Path, device: torch.device) -> Path:
    """A folder of 2 GB in fp16: every shape as in SD 1.5; the tokenizer is pocket's, with fewer words."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    with device:
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                num_attention_heads=12, max_position_embeddings=77, bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )
        )  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280),
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, sample_size=512,
        )  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(POCKET / "tokenizer", local_files_only=True)
    tokenizer.model_max_length = 77
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True,
        set_alpha_to_one=False,
    )  # fmt: skip
    parts = {"text_encoder": text, "unet": unet, "vae": vae}
    pipe = StableDiffusionPipeline(
        **{name: part.half().cpu() for name, part in parts.items()}, tokenizer=tokenizer, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(path)
    return path
