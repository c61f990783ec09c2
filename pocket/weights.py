"""Reading a weights folder: the stock pipeline, and the whole CLIP put together from its parts.

Owns the folder's layout as stock libraries read it, and the shapes of CLIP; must not know training or measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from pocket.errors import PocketError

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT = 32
"""Text positions."""


def load_pipeline(folder: Path, device: str = "cpu") -> Any:
    """The folder as a stock `StableDiffusionPipeline` in fp32, silent, on that device."""
    from diffusers import StableDiffusionPipeline

    if not (folder / "model_index.json").is_file():
        raise PocketError(f"no weights in {folder}", hint="give a folder that `python -m pocket train pack` wrote")
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def load_tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = CONTEXT
    return tokenizer


def token_ids(tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Ids (n, 32), padded; a longer text loses its end."""
    encoded = tokenizer(texts, padding="max_length", max_length=CONTEXT, truncation=True)
    return torch.tensor(encoded.input_ids)


def new_clip(vocabulary: int, *, tiny: bool = False) -> Any:
    """A whole CLIP with random weights: 4 text layers × 256, 6 image layers × 192, 128 pixels in patches of 16."""
    from transformers import CLIPConfig, CLIPModel

    width = 64 if tiny else 256
    text = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 2 if tiny else 4,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "projection_dim": width,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "hidden_act": "gelu",
    }
    image = {
        "hidden_size": 48 if tiny else 192,
        "intermediate_size": 192 if tiny else 768,
        "num_hidden_layers": 2 if tiny else 6,
        "num_attention_heads": 3,
        "image_size": 128,
        "patch_size": 16,
        "projection_dim": width,
        "hidden_act": "gelu",
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=width))


def clip_of(folder: Path, tokenizer: Any) -> Any:
    """The CLIP whose towers a weights folder holds, fp32.

    Args:
        folder: with `text_encoder/`, `image_encoder/` and `text_projection.safetensors`.
        tokenizer: whose vocabulary the model gets. Tokens that the folder's own tokenizer knows too keep their row,
            the others get a random one of the same spread.
    """
    parts = [folder / "text_encoder/model.safetensors", folder / "image_encoder/model.safetensors"]
    parts.append(folder / "text_projection.safetensors")
    if missing := [part for part in parts if not part.is_file()]:
        raise PocketError(f"CLIP needs {missing[0]}, which is absent", hint="pack the weights again")
    stored = {key: value.float() for part in parts for key, value in load_file(part).items()}
    width = stored["text_projection.weight"].shape[1]
    model = new_clip(len(tokenizer), tiny=width == 64)
    wanted = model.state_dict()
    weights = {key if key in wanted else f"text_model.{key}": value for key, value in stored.items()}
    embedding = "text_model.embeddings.token_embedding.weight"
    old = load_tokenizer(folder / "tokenizer").get_vocab()
    weights[embedding] = _rows_kept(weights[embedding], old, wanted[embedding], tokenizer.get_vocab())
    missing_keys, unknown = model.load_state_dict(weights, strict=False)
    if unknown or any("position_ids" not in key for key in missing_keys):
        raise PocketError(f"{folder} is not a CLIP of pocket's shape: {[*unknown, *missing_keys][0]}")
    return model


def _rows_kept(old: torch.Tensor, names: dict[str, int], new: torch.Tensor, wanted: dict[str, int]) -> torch.Tensor:
    """Token rows for another vocabulary, (n, width)."""
    if names == wanted:
        return old
    rows = new.clone() * old.std() / new.std()
    for token, i in wanted.items():
        if token in names:
            rows[i] = old[names[token]]
    return rows
