"""Writes `keys/*.json`: names and shapes of the tensors in real files, as the programs that write them name them.

Run it by hand: `python tests/formats/make_keys.py`. The names of modules come from the stock classes of diffusers and
transformers, the names of files from the writers of sd-scripts, LyCORIS, diffusers, peft, OneTrainer and A1111. The lists
are kept, so that a newer library does not change them.

A list is short: `{0,1}` in a name is one name with 0 and one with 1.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

FOLDER = Path(__file__).parent / "keys"


def main():
    for name, entries in lists().items():
        text = ",\n".join(f"  {json.dumps(key)}: {json.dumps(shape)}" for key, shape in shortened(entries))
        (FOLDER / f"{name}.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


def shortened(entries):
    """Names that differ in numbers only, and have one shape, as one line if all combinations exist."""
    groups = defaultdict(set)
    for key, shape in entries.items():
        numbers = tuple(re.findall(r"\d+", key))
        groups[re.sub(r"\d+", "#", key), tuple(shape)].add(numbers)
    for (template, shape), found in sorted(groups.items()):
        for columns in products(found):
            parts = template.split("#")
            filled = [one(column) + part for column, part in zip(columns, parts[1:], strict=True)]
            yield parts[0] + "".join(filled), list(shape)


def one(column):
    return column[0] if len(column) == 1 else "{" + ",".join(column) + "}"


def products(found):
    """Split a set of tuples into sets that are products."""
    columns = [sorted(set(column), key=int) for column in zip(*found, strict=True)]
    size = 1
    for column in columns:
        size *= len(column)
    if size == len(found):
        yield columns
        return
    at = next(i for i, column in enumerate(columns) if len(column) > 1)
    for value in columns[at]:
        yield from products({numbers for numbers in found if numbers[at] == value})


def lists():
    sd15, sd21, sdxl = (weights_of_unet(name) for name in ("sd15", "sd21", "sdxl"))
    clip, clip_g = weights_of_text(768, 12), weights_of_text(1280, 32)
    own = {name: keys_values(unet) for name, unet in (("sd15", sd15), ("sd21", sd21), ("sdxl", sdxl))}
    whole = {f"model.diffusion_model.{k}": s for k, s in original_unet().items()}
    return {
        "lora_kohya_sd15": kohya(attention_and_ff(sd15), 32) | kohya_text(clip, "lora_te_", 32),
        "lora_kohya_sdxl": kohya(attention_and_ff(sdxl), 16, original=True)
        | kohya_text(clip, "lora_te1_", 16)
        | kohya_text(clip_g, "lora_te2_", 16),
        **{f"lora_kohya_kv_{name}": kohya(sites, 8) for name, sites in own.items()},
        "lora_kohya_kv_original_sdxl": kohya(own["sdxl"], 8, original=True),
        "lora_locon_sd15": kohya(attention_and_ff(sd15) | convolutions(sd15), 8) | kohya_text(clip, "lora_te_", 8),
        "lora_diffusers_sd15": diffusers(attention(sd15), "unet.{}.lora.{}.weight", ("down", "up"), 4),
        "lora_diffusers_sd15_early": processors(attention(sd15), 4),
        "lora_peft_sdxl": diffusers(attention(sdxl), "unet.{}.lora_{}.weight", ("A", "B"), 8)
        | diffusers(text_attention(clip), "text_encoder.{}.lora_{}.weight", ("A", "B"), 8),
        "lora_peft_model_sd15": diffusers(attention(sd15), "base_model.model.{}.lora_{}.weight", ("A", "B"), 8),
        "lora_onetrainer_sdxl": kohya(own["sdxl"], 16)
        | {"bundle_emb.dog.clip_l": (2, 768), "bundle_emb.dog.clip_g": (2, 1280)},
        "lora_flux": diffusers(
            {f"single_transformer_blocks.{i}.attn.to_q": (3072, 3072) for i in range(38)},
            "transformer.{}.lora_{}.weight",
            ("A", "B"),
            16,
        ),
        "diff_sd15": {f"lora_unet_{flat(k)}.diff": s for k, s in own["sd15"].items()},
        "diff_sdxl": {f"lora_unet_{flat(k)}.diff": s for k, s in own["sdxl"].items()},
        "diff_lycoris_full_sd15": full_lycoris(attention_and_ff(sd15), clip),
        "kv_sd15": {f"{k}.weight": s for k, s in own["sd15"].items()},
        "kv_original_form_sd15": {f"unet.{k}.weight": s for k, s in own["sd15"].items()} | {"modifier_token.<new1>": (768,)},
        "custom-diffusion_sd15": custom_diffusion(attention(sd15)),
        "custom-diffusion_without_self_attention_sd21": {
            f"{k.replace('.to_', '.processor.to_')}_custom_diffusion.weight": s for k, s in own["sd21"].items()
        },
        "embedding_diffusers_sd15": {"<cat-toy>": (768,)},
        "embedding_diffusers_several_sd21": {"midjourney": (4, 1024)},
        "embedding_kohya_sd15": {"emb_params": (8, 768)},
        "embedding_kohya_sdxl": {"clip_g": (4, 1280), "clip_l": (4, 768)},
        "embedding_a1111_sd15": {"string_to_param.*": (8, 768), "string_to_token.*": (), "step": ()},
        "none_checkpoint_sd15": whole | original_vae("first_stage_model.") | original_text(clip),
        "none_unet_sd15": {f"{k}.weight": s for k, s in sd15.items()},
        "none_vae": original_vae(""),
        "none_text_encoder": {f"text_model.{k}.weight": s for k, s in clip.items()},
        "none_controlnet_sd15": {f"control_model.{k}": s for k, s in original_unet().items() if "output_blocks" not in k}
        | {f"control_model.zero_convs.{i}.0.weight": (320, 320, 1, 1) for i in range(12)},
        "none_ip_adapter": {"image_proj.proj.weight": (3072, 1024), "image_proj.norm.weight": (768,)}
        | {f"ip_adapter.{2 * i + 1}.to_{h}_ip.weight": (320, 768) for i in range(16) for h in "kv"},
        "none_loha_sd15": {
            f"lora_unet_{flat(k)}.{part}": shape
            for k, (rows, columns) in attention(sd15).items()
            for part, shape in {
                "alpha": (), "hada_w1_a": (rows, 8), "hada_w1_b": (8, columns), "hada_w2_a": (rows, 8), "hada_w2_b": (8, columns)
            }.items()
        },
        "none_lokr_sdxl": {
            f"lora_unet_{flat(k)}.{part}": shape
            for k, (rows, columns) in attention(sdxl).items()
            for part, shape in {"alpha": (), "lokr_w1": (8, 8), "lokr_w2": (rows // 8, columns // 8)}.items()
        },
        "none_motion_module": {f"down_blocks.{i}.motion_modules.{j}.temporal_transformer.proj_in.weight": (320, 320) for i in range(4) for j in range(2)},
        "none_cache": {"latents": (10, 4, 64, 64), "labels": (10,)},
    }  # fmt: skip


def weights_of_unet(name):
    """The weights (without biases) of a UNet by its published configuration."""
    import torch
    from diffusers import UNet2DConditionModel

    import cnsctl

    config = json.loads((Path(cnsctl.__file__).parent / f"bases/configs/{name}/unet/config.json").read_text())
    with torch.device("meta"):
        return weights(UNet2DConditionModel.from_config(config))


def weights_of_text(width, layers):
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers)
    with torch.device("meta"):
        found = weights(CLIPTextModel(config))
    return {name.removeprefix("text_model."): shape for name, shape in found.items()}


def weights(model):
    found = model.state_dict().items()
    return {name.removesuffix(".weight"): tuple(tensor.shape) for name, tensor in found if name.endswith(".weight")}


def attention(unet):
    return {k: s for k, s in unet.items() if re.search(r"\.attn[12]\.to_(q|k|v|out\.0)$", k)}


def keys_values(unet):
    return {k: s for k, s in unet.items() if re.search(r"\.attn2\.to_[kv]$", k)}


def attention_and_ff(unet):
    return attention(unet) | {k: s for k, s in unet.items() if re.search(r"\.(ff\.net\..*|proj_in|proj_out)$", k)}


def convolutions(unet):
    return {k: s for k, s in unet.items() if re.search(r"\.(conv1|conv2|conv_shortcut|time_emb_proj|conv)$", k)}


def text_attention(text):
    return {f"text_model.{k}": s for k, s in text.items() if re.search(r"_proj$", k)}


def flat(name):
    return name.replace(".", "_")


def original_name(site):
    """sd-scripts trains SDXL under the original names; those of attention blocks, with two layers per block."""
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.attentions\.(\d)\.(.*)", site)
    if not found:
        return site.replace("mid_block.attentions.0", "middle_block.1")
    row = 3 * int(found[2]) + int(found[3])
    return f"input_blocks.{row + 1}.1.{found[4]}" if found[1] == "down" else f"output_blocks.{row}.1.{found[4]}"


def kohya(modules, rank, *, original=False, prefix="lora_unet_"):
    entries = {}
    for name, shape in modules.items():
        stem = prefix + flat(original_name(name) if original else name)
        rest = (1,) * len(shape[2:])
        entries[f"{stem}.lora_down.weight"] = (rank, shape[1], *shape[2:])
        entries[f"{stem}.lora_up.weight"] = (shape[0], rank, *rest)
        entries[f"{stem}.alpha"] = ()
    return entries


def kohya_text(text, prefix, rank):
    modules = {f"text_model.{k}": s for k, s in text.items() if re.search(r"(_proj|fc1|fc2)$", k)}
    return kohya(modules, rank, prefix=prefix)


def diffusers(modules, pattern, halves, rank):
    down, up = halves
    shapes = {pattern.format(k, down): (rank, s[1]) for k, s in modules.items()}
    return shapes | {pattern.format(k, up): (s[0], rank) for k, s in modules.items()}


def processors(modules, rank):
    named = {k.replace("to_out.0", "to_out").replace(".to_", ".processor.to_"): s for k, s in modules.items()}
    return diffusers(named, "{}_lora.{}.weight", ("down", "up"), rank)


def full_lycoris(modules, text):
    layers = {f"lora_te_text_model_{flat(k)}.diff": s for k, s in text.items() if re.search(r"(_proj|fc1|fc2)$", k)}
    return layers | {f"lora_unet_{flat(k)}.diff": s for k, s in modules.items()} | {
        f"lora_unet_{flat(k)}.diff_b": s[:1] for k, s in modules.items() if k.endswith(("proj_in", "proj_out"))
    }  # fmt: skip


def custom_diffusion(modules):
    entries = {}
    for name, shape in modules.items():
        layer, _, projection = name.partition(".to_")
        if layer.endswith("attn1"):
            entries[f"{layer}.processor"] = (0,)
        elif projection in {"k", "v"}:
            entries[f"{layer}.processor.to_{projection}_custom_diffusion.weight"] = shape
    return entries


def original_unet():
    """Some weights of each kind in the UNet of SD 1.5 under its original names."""
    entries = {
        "input_blocks.0.0.weight": (320, 4, 3, 3),
        "time_embed.0.weight": (1280, 320),
        "out.2.weight": (4, 320, 3, 3),
    }
    for row in (1, 2):
        block = f"input_blocks.{row}"
        entries |= {f"{block}.0.in_layers.2.weight": (320, 320, 3, 3), f"{block}.0.in_layers.2.bias": (320,)}
        for layer in ("attn1", "attn2"):
            width = 320 if layer == "attn1" else 768
            for projection in "qkv":
                shape = (320, 320 if projection == "q" else width)
                entries[f"{block}.1.transformer_blocks.0.{layer}.to_{projection}.weight"] = shape
        entries |= {f"{block.replace('input', 'output')}.1.proj_in.weight": (320, 320, 1, 1)}
    return entries


def original_vae(prefix):
    names = {
        "encoder.conv_in": (128, 3, 3, 3),
        "decoder.conv_in": (512, 4, 3, 3),
        "decoder.mid.attn_1.q": (512, 512, 1, 1),
    }
    return {f"{prefix}{k}.weight": s for k, s in names.items()} | {f"{prefix}post_quant_conv.bias": (4,)}


def original_text(text):
    return {f"cond_stage_model.transformer.text_model.{k}.weight": s for k, s in text.items()}


if __name__ == "__main__":
    main()
