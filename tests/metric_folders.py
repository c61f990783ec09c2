"""Tiny random models that measure images, in folders as transformers writes them."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from cnsctl.bases.base_folder import POCKET
from cnsctl.bases.libraries import quiet_libraries


def make_clip(path: Path, *, seed: int = 0) -> Path:
    """A stock CLIP with pocket's vocabulary."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    quiet_libraries()
    torch.manual_seed(seed)
    tokenizer = CLIPTokenizer.from_pretrained(POCKET / "tokenizer", local_files_only=True)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": 1}
    images = {**small, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=images, projection_dim=16)).save_pretrained(path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def make_dino(path: Path) -> Path:
    """A stock DINOv2."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    quiet_libraries()
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}).save_pretrained(path)
    return path
