"""Building each model for its stage: from this work, from initial weights, or new.

Owns that order and the stock classes; must not know losses or schedules.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pocket.errors import PocketError
from pocket.training.learner import best_weights
from pocket.training.recipes import SCHEDULE, unet_shape, vae_shape
from pocket.training.work import read_notes
from pocket.weights import clip_of, load_tokenizer, new_clip

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pocket.training.work import Work

VAE_STATE, CLIP_STATE, UNET_STATE = "vae.safetensors", "clip.safetensors", "unet.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A model to train on."""

    model: Any
    trained: bool
    """Whether its weights come from somewhere."""
    config: dict[str, Any]
    """What it can be built again from."""


def vae_to_train(work: Work, *, small: bool) -> Start:
    from diffusers import AutoencoderKL

    if work.has(VAE_STATE):
        config = read_notes(work.path(VAE_STATE))["config"]
        return Start(model=AutoencoderKL.from_config(config), trained=True, config=config)
    folder = _folder(work, "vae")
    model = AutoencoderKL(**vae_shape(small=small)) if folder is None else _from(AutoencoderKL, folder)
    return Start(model=model, trained=folder is not None, config=_plain(model.config))


def vae_to_use(work: Work) -> Any:
    """The VAE as it stands, fp32, not to be trained."""
    from diffusers import AutoencoderKL

    if work.has(VAE_STATE):
        weights, notes = best_weights(work.path(VAE_STATE))
        model = AutoencoderKL.from_config(notes["config"])
        model.load_state_dict(weights)
        model.register_to_config(scaling_factor=notes.get("scale", model.config.scaling_factor))
        return model.eval()
    folder = _folder(work, "vae")
    if folder is None:
        raise PocketError(f"no VAE in {work.folder}", hint="run the stage vae first, or give --init")
    return _from(AutoencoderKL, folder).eval()


def clip_to_train(work: Work, *, small: bool) -> Start:
    tokenizer = load_tokenizer(work.tokenizer())
    if work.has(CLIP_STATE):
        config = read_notes(work.path(CLIP_STATE))["config"]
        return Start(model=new_clip(config["vocabulary"], tiny=config["tiny"]), trained=True, config=config)
    config = {"vocabulary": len(tokenizer), "tiny": small}
    if work.init is not None and work.init_has("image_encoder"):
        return Start(model=clip_of(work.init, tokenizer), trained=True, config={**config, "tiny": False})
    return Start(model=new_clip(len(tokenizer), tiny=small), trained=False, config=config)


def clip_to_use(work: Work) -> Any:
    """The whole CLIP as it stands, fp32, not to be trained."""
    if work.has(CLIP_STATE):
        weights, notes = best_weights(work.path(CLIP_STATE))
        model = new_clip(notes["config"]["vocabulary"], tiny=notes["config"]["tiny"])
        model.load_state_dict(weights)
        return model.eval()
    start = clip_to_train(work, small=False)
    if not start.trained:
        raise PocketError(f"no CLIP in {work.folder}", hint="run the stage clip first, or give --init")
    return start.model.eval()


def text_encoder_of(clip: Any) -> Any:
    """The text tower as a `CLIPTextModel`: what a stock pipeline holds."""
    from transformers import CLIPTextModel

    model = CLIPTextModel(clip.config.text_config)
    wanted = model.state_dict()
    tower = clip.text_model.state_dict()
    model.load_state_dict({key if key in wanted else f"text_model.{key}": value for key, value in tower.items()})
    return model.eval()


def unet_to_train(work: Work, *, small: bool) -> Start:
    from diffusers import UNet2DConditionModel

    if work.has(UNET_STATE):
        config = read_notes(work.path(UNET_STATE))["config"]
        return Start(model=UNet2DConditionModel.from_config(config), trained=True, config=config)
    folder = _folder(work, "unet")
    model = UNet2DConditionModel(**unet_shape(small=small)) if folder is None else _from(UNet2DConditionModel, folder)
    return Start(model=model, trained=folder is not None, config=_plain(model.config))


def unet_to_use(work: Work) -> Any:
    """The averaged denoiser as it stands, fp32."""
    from diffusers import UNet2DConditionModel

    if work.has(UNET_STATE):
        weights, notes = best_weights(work.path(UNET_STATE))
        model = UNet2DConditionModel.from_config(notes["config"])
        model.load_state_dict(weights)
        return model.eval()
    folder = _folder(work, "unet")
    if folder is None:
        raise PocketError(f"no denoiser in {work.folder}", hint="run the stage unet first, or give --init")
    return _from(UNet2DConditionModel, folder).eval()


def pipeline_of(work: Work, scale: float, unet: Any = None) -> Any:
    """Everything as it stands, as the stock pipeline that will be packed.

    Args:
        work: the folder.
        scale: of the latents that the denoiser was trained on.
        unet: instead of the one on disk.
    """
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    vae = vae_to_use(work)
    vae.register_to_config(scaling_factor=scale, sample_size=128)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder_of(clip_to_use(work)),
        tokenizer=load_tokenizer(work.tokenizer()),
        unet=unet_to_use(work) if unet is None else unet,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE, timestep_spacing="trailing", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _folder(work: Work, name: str) -> Path | None:
    """Where the initial weights have a model."""
    return work.init / name if work.init is not None and work.init_has(name) else None


def _from(model_class: Any, folder: Path) -> Any:
    return model_class.from_pretrained(folder, torch_dtype=torch.float32)


def _plain(config: Any) -> dict[str, Any]:
    """A diffusers configuration without what says where it came from."""
    return {key: value for key, value in dict(config).items() if not key.startswith("_")}


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of tensors in the order of their names: whether what was made with them is still theirs."""
    sha = hashlib.sha256()
    for _, value in sorted(tensors.items()):
        sha.update(value.detach().cpu().float().numpy().tobytes())
    return sha.hexdigest()
