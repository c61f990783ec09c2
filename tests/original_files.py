"""Single-file checkpoints under the original (LDM) names, made of diffusers folders: the inverse of diffusers' renaming."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING as NAMES

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def original_unet(weights: dict[str, torch.Tensor], per_block: int) -> dict[str, torch.Tensor]:
    """A UNet's weights under the original names."""
    step = per_block + 1
    with_attention = {int(m[1]) for m in (re.match(r"up_blocks\.(\d+)\.attentions", name) for name in weights) if m}
    fixed = {**NAMES["unet"]["layers"], **NAMES["unet"]["addition_embed_type"]}

    def renamed(name: str) -> str:
        if name in fixed:
            return fixed[name]
        side, rest = name.split("_block", 1)
        if side == "mid":
            _, kind, j, inner = rest.split(".", 3)
            return f"middle_block.{2 * int(j) if kind == 'resnets' else 1}.{resnet(inner, kind)}"
        _, b, kind, j, inner = rest.split(".", 4)
        place = int(b) * step + int(j)
        if kind == "downsamplers":
            return f"input_blocks.{(int(b) + 1) * step}.0.op.{inner.removeprefix('conv.')}"
        if kind == "upsamplers":
            return f"output_blocks.{int(b) * step + per_block}.{2 if int(b) in with_attention else 1}.{inner}"
        stem = f"input_blocks.{place + 1}" if side == "down" else f"output_blocks.{place}"
        return f"{stem}.{0 if kind == 'resnets' else 1}.{resnet(inner, kind)}"

    def resnet(inner: str, kind: str) -> str:
        first, _, last = inner.partition(".")
        return f"{RESNET[first]}.{last}" if kind == "resnets" else inner

    return {f"model.diffusion_model.{renamed(name)}": tensor for name, tensor in weights.items()}


def original_vae(weights: dict[str, torch.Tensor], n_blocks: int) -> dict[str, torch.Tensor]:
    """A VAE's weights under the original names; those of its attention are convolutions of one pixel."""
    found = {}
    for key, value in weights.items():
        name, tensor = NAMES["vae"].get(key, key), value
        name = re.sub(r"(encoder\.down)_blocks\.(\d+)\.resnets\.", r"\1.\2.block.", name)
        name = re.sub(r"(encoder\.down)_blocks\.(\d+)\.downsamplers\.0\.", r"\1.\2.downsample.", name)
        for kind, new in (("resnets", "block"), ("upsamplers.0", "upsample")):
            name = re.sub(
                rf"(decoder\.up)_blocks\.(\d+)\.{kind}\.",
                lambda m, new=new: f"{m[1]}.{n_blocks - 1 - int(m[2])}.{new}.",
                name,
            )
        name = re.sub(r"mid_block\.resnets\.(\d+)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", name)
        if ".mid_block.attentions.0." in name:
            stem, _, last = name.rpartition(".")
            part = stem.split(".mid_block.attentions.0.")[1]
            name = f"{stem.split('.')[0]}.mid.attn_1.{VAE_ATTENTION[part]}.{last}"
            tensor = tensor[:, :, None, None] if tensor.dim() == 2 else tensor
        found["first_stage_model." + name.replace("conv_shortcut", "nin_shortcut")] = tensor
    return found


def original_clip(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """A text encoder's weights under transformers' own names."""
    return {f"{prefix}text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in weights.items()}


def original_open_clip(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """A text encoder's weights under OpenCLIP's names, with Q, K and V in one matrix."""
    fixed = {new.removeprefix("text_model."): old for new, old in NAMES["openclip"]["layers"].items()}
    inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    found, stacked = {}, {}
    for key, tensor in weights.items():
        name = key.removeprefix("text_model.")
        if name in fixed:
            found[prefix + fixed[name]] = tensor.T.contiguous() if name.startswith("text_projection") else tensor
            continue
        _, _, layer, rest = name.split(".", 3)
        stem = f"{prefix}transformer.resblocks.{layer}."
        if match := re.fullmatch(r"self_attn\.([qkv])_proj\.(weight|bias)", rest):
            stacked.setdefault(f"{stem}attn.in_proj_{match[2]}", {})[match[1]] = tensor
        elif rest.startswith("self_attn.out_proj"):
            found[f"{stem}attn.out_proj.{rest.rpartition('.')[2]}"] = tensor
        else:
            part, _, last = rest.rpartition(".")
            found[f"{stem}{inner[part]}.{last}"] = tensor
    return found | {name: torch.cat([rows["q"], rows["k"], rows["v"]]) for name, rows in stacked.items()}


def with_last_layer(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SD 2.x's files have one layer more than its folders, which is not read; here it is full of NaN."""
    layers = [int(m[1]) for m in (re.search(r"encoder\.layers\.(\d+)\.", name) for name in weights) if m]
    last = f"encoder.layers.{max(layers)}."
    more = {n.replace(last, f"encoder.layers.{max(layers) + 1}."): t for n, t in weights.items() if last in n}
    return weights | {name: torch.full_like(tensor, float("nan")) for name, tensor in more.items()}


def original_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a diffusers folder of SD 1.x, SD 2.x or SDXL, as its single file contains them."""
    from safetensors.torch import load_file

    def part(name: str) -> dict[str, torch.Tensor]:
        (file,) = (folder / name).glob("*.safetensors")
        return load_file(file)

    def config(name: str) -> dict:
        return json.loads((folder / name / "config.json").read_text())

    found = original_unet(part("unet"), config("unet")["layers_per_block"])
    found |= original_vae(part("vae"), len(config("vae")["block_out_channels"]))
    if (folder / "text_encoder_2").is_dir():
        found |= original_clip(part("text_encoder"), "conditioner.embedders.0.transformer.")
        return found | original_open_clip(part("text_encoder_2"), "conditioner.embedders.1.model.")
    if config("text_encoder")["hidden_act"] == "gelu":
        return found | original_open_clip(with_last_layer(part("text_encoder")), "cond_stage_model.model.")
    return found | original_clip(part("text_encoder"), "cond_stage_model.transformer.")


def write_single_file(folder: Path, file: Path, *marks: str) -> Path:
    """A diffusers folder as a single file, with marks: keys without weights."""
    from safetensors.torch import save_file

    weights = {name: tensor.contiguous().clone() for name, tensor in original_weights(folder).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights | {mark: torch.zeros(0) for mark in marks}, file)
    return file


def make_folder(path: Path, version: str, *, dtype: torch.dtype = torch.float16, seed: int = 0) -> Path:
    """A tiny diffusers folder with what the published configuration of a version fixes, and CLIP's vocabulary."""
    import diffusers
    import transformers

    from cnsctl.bases.single_file import CONFIGS, _write_vocabulary

    torch.manual_seed(seed)
    published = CONFIGS / version

    def config(part: str, **changes) -> dict:
        return {**json.loads((published / part / "config.json").read_text()), **changes}

    is_xl, is_open_clip = version == "sdxl", version.startswith("sd2")
    text = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 1, "num_hidden_layers": 2}
    context, time_ids = (
        (192, {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 176}) if is_xl else (64, {})
    )
    unet = config(
        "unet", sample_size=8, block_out_channels=[32, 64], layers_per_block=1, cross_attention_dim=context,
        attention_head_dim=[1, 1] if is_xl or is_open_clip else 8, **time_ids,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"] if is_xl else ["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"] if is_xl else ["UpBlock2D", "CrossAttnUpBlock2D"],
        **({"transformer_layers_per_block": [1, 2]} if is_xl else {}),
    )  # fmt: skip
    vae = config(
        "vae", block_out_channels=[32, 32], layers_per_block=1, sample_size=16,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    )  # fmt: skip
    parts = {
        "unet": diffusers.UNet2DConditionModel.from_config(unet),
        "vae": diffusers.AutoencoderKL.from_config(vae),
        "text_encoder": transformers.CLIPTextModel(transformers.CLIPTextConfig(**config("text_encoder", **text))),
    }
    if is_xl:
        wide = {**text, "hidden_size": 128, "num_attention_heads": 2, "projection_dim": 128}
        kind = transformers.CLIPTextModelWithProjection
        parts["text_encoder_2"] = kind(transformers.CLIPTextConfig(**config("text_encoder_2", **wide)))
    for name, module in parts.items():
        module.to(dtype).save_pretrained(path / name, safe_serialization=True)
    for source in published.rglob("*.json"):
        target = path / source.relative_to(published)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    for tokenizer in published.glob("tokenizer*"):
        _write_vocabulary(path / tokenizer.name)
    return path
