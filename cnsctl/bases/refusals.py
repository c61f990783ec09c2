"""Why a path cannot be a base model, by what is there.

Owns these reasons and their messages; must not know how base models are loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from cnsctl.bases.config_files import read_json
from cnsctl.bases.part_files import INDEX, OTHER_FORMATS, PICKLES
from cnsctl.bases.recognize import REASONS, TITLES, Kind
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cnsctl.bases.family import Family, Part

JOINT = frozenset({
    "AuraFlowTransformer2DModel", "BriaFiboTransformer2DModel", "BriaTransformer2DModel", "ChromaTransformer2DModel",
    "CogView3PlusTransformer2DModel", "CogView4Transformer2DModel", "ErnieImageTransformer2DModel",
    "Flux2Transformer2DModel", "FluxTransformer2DModel", "GlmImageTransformer2DModel", "HiDreamImageTransformer2DModel",
    "HunyuanImageTransformer2DModel", "Ideogram4Transformer2DModel", "LongCatImageTransformer2DModel",
    "OmniGenTransformer2DModel", "OvisImageTransformer2DModel", "QwenImageTransformer2DModel", "SD3Transformer2DModel",
})  # fmt: skip
"""Denoisers in which text and image share each attention layer."""

SINGLE_MODELS: Mapping[str, Kind] = {
    "UNet2DConditionModel": Kind.UNET,
    "AutoencoderKL": Kind.VAE,
    "ControlNetModel": Kind.CONTROLNET,
    "ControlNetUnionModel": Kind.CONTROLNET,
    "FluxControlNetModel": Kind.CONTROLNET,
    "SD3ControlNetModel": Kind.CONTROLNET,
    "T2IAdapter": Kind.ADAPTER,
    "MotionAdapter": Kind.MOTION,
    "CLIPTextModel": Kind.TEXT_ENCODER,
    "CLIPTextModelWithProjection": Kind.TEXT_ENCODER,
    "CLIPModel": Kind.TEXT_ENCODER,
    **{name: Kind.FLUX if name.startswith("Flux") else Kind.OTHER_TRANSFORMER for name in JOINT},
    "SD3Transformer2DModel": Kind.SD3,
}
"""What the folder of one model is, by the class in its `config.json`."""

INDIFFERENT = frozenset({
    "safety_checker", "feature_extractor", "image_encoder", "controlnet", "adapter", "watermark", "inverse_scheduler",
    "caption_generator", "caption_processor",
})  # fmt: skip
"""Parts of pipelines without which their denoiser generates from text alone."""

_NEEDED_INPUTS: Mapping[str, str] = {
    "time_cond_proj_dim": REASONS[Kind.LCM],
    "class_embed_type": "its denoiser takes a class, a noise level or an image embedding",
    "num_class_embeds": "its denoiser takes a class",
    "encoder_hid_dim_type": "its denoiser takes an image embedding, or projects the text itself",
    "encoder_hid_dim": "its denoiser projects the text itself",
}
"""Settings of a UNet that must be null."""


def refuse_missing(path: Path) -> NoReturn:
    """Refuse a path where nothing is."""
    raise BaseModelError(f"base model not found: {path}", reason="base-missing")


def refuse_other_file(path: Path) -> None:
    """Refuse a file that is not a safetensors file, by its suffix."""
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise BaseModelError(
            f"{path} is a pickle, not a safetensors file",
            note="pickles are not read, because reading one can run any program",
            hint=(
                "get the .safetensors version; or, if you trust its source, convert it: "
                "from diffusers import StableDiffusionPipeline as P; "
                f'P.from_single_file("{path}").save_pretrained("{path.with_suffix("")}")'
            ),
        )
    if suffix in OTHER_FORMATS:
        raise BaseModelError(
            f"{path} is a {suffix} file, not a safetensors file", hint="get the .safetensors version of the model"
        )
    if suffix != ".safetensors":
        raise BaseModelError(f"not a base model: {path}", hint="give a diffusers folder, or a .safetensors checkpoint")


def refuse_without_index(path: Path) -> NoReturn:
    """Refuse a folder without `model_index.json`, with what it is instead."""
    kind, name = _single_model(path)
    if (path.parent / INDEX).is_file():
        raise BaseModelError(
            f"{path} is a part of a pipeline, not a pipeline", hint=f"give the folder above: {path.parent}"
        )
    if kind is not None:
        raise BaseModelError(f"{path} is {TITLES[kind]}, not a base model: {name}", note=REASONS[kind])
    if files := sorted(path.glob("*.safetensors")):
        found = ", ".join(file.name for file in files[:3])
        raise BaseModelError(
            f"{INDEX} not found in {path}",
            note=f"the folder contains {found}",
            hint=f"give a file: {files[0]}, or the folder of a diffusers pipeline",
        )
    if files := sorted(file for file in path.iterdir() if file.suffix in PICKLES):
        refuse_other_file(files[0])
    raise BaseModelError(f"{INDEX} not found in {path}", hint="give the top folder of a diffusers pipeline")


def _single_model(path: Path) -> tuple[Kind | None, str]:
    """What a folder of one model is, and the name that says so."""
    for name in ("pytorch_lora_weights.safetensors", "adapter_config.json", "pytorch_lora_weights.bin"):
        if (path / name).is_file():
            return Kind.LORA, name
    for name in ("learned_embeds.safetensors", "learned_embeds.bin"):
        if (path / name).is_file():
            return Kind.EMBEDDING, name
    if not (path / "config.json").is_file():
        return None, ""
    config = read_json(path / "config.json")
    architectures = config.get("architectures")
    names = [config.get("_class_name"), *(architectures if isinstance(architectures, list) else [])]
    return next(((SINGLE_MODELS[n], n) for n in names if isinstance(n, str) and n in SINGLE_MODELS), (None, ""))


def refuse_pipeline(path: Path, index: Mapping[str, Any], families: Iterable[Family]) -> NoReturn:
    """Refuse a pipeline that belongs to no family, with the reason."""
    families = tuple(families)
    denoiser = _class_in(index, "transformer")
    reason = None
    if denoiser in JOINT:
        reason = REASONS[Kind.FLUX]
    elif denoiser is not None and not any(is_kind(denoiser, part) for f in families for part in f.parts if part.kind):
        reason = f"its denoiser is a {denoiser}, of a family that is not supported yet"
    elif any(part.name in index for family in families for part in family.parts):
        reason = _nearest_difference(index, families)
    raise BaseModelError(
        f"unsupported base model: {path} is a {index['_class_name']}"
        if "_class_name" in index
        else f"not a base model: the model_index.json of {path} names no pipeline",
        note=reason or f"supported: {', '.join(name for f in families for name in f.pipelines)}",
        hint=f"give a folder of {' or '.join(f.title for f in families)}",
    )


def _nearest_difference(index: Mapping[str, Any], families: Iterable[Family]) -> str | None:
    """What a pipeline with a UNet has other than the family that it resembles most."""
    if _class_in(index, "text_encoder") is None and _class_in(index, "text_encoder_2") is not None:
        return REASONS[Kind.REFINER]
    found = [reasons for family in families if (reasons := difference(index, family.parts))]
    return min(found, key=len)[0] if found else None


def difference(index: Mapping[str, Any], parts: Iterable[Part]) -> list[str]:
    """How a pipeline's parts differ from those of a family; empty if they are the same."""
    parts = tuple(parts)
    found = []
    for part in parts:
        name = _class_in(index, part.name)
        if name is None:
            found.append(f"it has no part {part.name!r}")
        elif not is_kind(name, part):
            expected = "scheduler of diffusers" if part.kind is None else part.kind.partition(".")[2]
            found.append(f"its {part.name} is a {name}, not a {expected}")
    known = {*INDIFFERENT, *(part.name for part in parts)}
    others = [key for key, value in index.items() if key not in known and _class_in({key: value}, key) is not None]
    return found + [f"it needs a part {name!r}" for name in others]


def is_kind(name: str, part: Part) -> bool:
    """Is this the class that reads a part, or one with the same files?"""
    if part.kind is None:
        return name.endswith("Scheduler")
    expected = part.kind.partition(".")[2]
    return any(name.removesuffix(end) == expected.removesuffix(end) for end in ("", "Fast", "WithProjection"))


def _class_in(index: Mapping[str, Any], part: str) -> str | None:
    """The class of a part of a pipeline; None if the pipeline does not have this part."""
    entry = index.get(part)
    return str(entry[1]) if isinstance(entry, list) and len(entry) == 2 and entry[1] is not None else None


def refuse_denoiser(path: Path, config: Mapping[str, Any], parts: Iterable[Part]) -> None:
    """Refuse a UNet that needs more than text and latents, by its configuration, before its weights are read.

    Raises:
        BaseModelError: with the reason.
    """
    channels = config.get("in_channels", 4)
    kinds = {9: Kind.INPAINTING, 8: Kind.EDITING, 7: Kind.OTHER_INPUT, 5: Kind.OTHER_INPUT}
    takes_more = channels != config.get("out_channels", 4)
    reason = REASONS[kinds[channels]] if takes_more and isinstance(channels, int) and channels in kinds else None
    reason = reason or next((why for key, why in _NEEDED_INPUTS.items() if config.get(key) is not None), None)
    added = config.get("addition_embed_type")
    takes_pooled = any(part.name == "text_encoder_2" for part in parts)
    if added is not None and not (added == "text_time" and takes_pooled):
        reason = reason or f"its denoiser takes an added embedding: {added}"
    if reason is not None:
        raise BaseModelError(
            f"unsupported base model: {path}", note=reason, hint="give a model that generates from text alone"
        )
