"""What of a stock diffusers pipeline a concept concerns, also under torch.compile and with PEFT's adapters in it.

Owns where things are in a pipeline, and the refusal of pipelines that cannot be used; must not change anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnsctl.bases.registry import FAMILIES
from cnsctl.errors import BaseModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

SITES = ("attn2.to_k", "attn2.to_v")
"""How the names of the K and V projections of cross-attention end."""

WRAPPED = "base_layer"
"""Where a layer of PEFT keeps the layer that it wraps."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """The parts themselves, without what torch.compile and PEFT wrap around them."""

    unet: Any
    encoders: Mapping[str, Any]
    """Text encoders by their attributes of the pipeline, which the families declare."""
    tokenizers: Mapping[str, Any]
    """Of these text encoders, by the names of the text encoders."""
    others: tuple[Any, ...]
    """Other modules that read the text features: a ControlNet."""
    attentions: Mapping[str, Any]
    """Cross-attention layers by name."""
    sites: Mapping[str, torch.nn.Linear]
    """K and V projections by the names that they have without adapters."""


def parts_of(pipe: Any) -> Parts:
    """The parts of a pipeline.

    Raises:
        BaseModelError: it has no UNet, text encoder or tokenizer.
        UsageError: it is distributed over devices, or its projections are fused, or its weights are not loaded.
    """
    missing = [part for part in ("unet", "text_encoder", "tokenizer") if getattr(pipe, part, None) is None]
    if missing:
        raise BaseModelError(
            f"unsupported pipeline: {type(pipe).__name__} has no {missing[0]}",
            hint="use a StableDiffusionPipeline or a StableDiffusionXLPipeline",
        )
    declared = {e: t for family in FAMILIES if family.has_clip_text for e, t in family.text_encoders.items()}
    names = {e: t for e, t in declared.items() if getattr(pipe, e, None) is not None}
    unet = _itself(pipe.unet)
    others = [_itself(pipe.controlnet)] if getattr(pipe, "controlnet", None) is not None else []
    found = Parts(
        unet=unet,
        encoders={e: _itself(getattr(pipe, e)) for e in names},
        tokenizers={e: getattr(pipe, t) for e, t in names.items()},
        others=tuple(others),
        attentions={name: module for name, module in unet.named_modules() if name.endswith(".attn2")},
        sites=_sites(unet),
    )
    check_readable(found.attentions)
    check_not_fused(unet)
    tables = [e.get_input_embeddings().weight for e in found.encoders.values()]
    if any(W.device.type == "meta" for W in (*(p.weight for p in found.sites.values()), *tables)):
        raise UsageError(
            "cannot change a pipeline whose weights are offloaded", hint="apply the concept before the offload"
        )
    return found


def _itself(module: Any) -> Any:
    """A module without the wrapper of torch.compile."""
    import torch

    if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        raise UsageError(
            f"cannot change a pipeline with a part in {type(module).__name__}",
            hint="apply the concept to a pipeline on one device",
        )
    return getattr(module, "_orig_mod", module)


def _sites(unet: Any) -> dict[str, torch.nn.Linear]:
    import torch

    found = {}
    for name, module in unet.named_modules():
        if name.endswith(SITES):
            layer = module
            while hasattr(layer, WRAPPED):
                layer = getattr(layer, WRAPPED)
            if isinstance(layer, torch.nn.Linear):
                found[name] = layer
    return found


def check_readable(attentions: Mapping[str, Any]) -> None:
    """Refuse attention that does not read K and V through the projections.

    Raises:
        UsageError: by the name of the first layer.
    """
    for name, attention in attentions.items():
        processor = attention.processor
        if type(processor).__name__.startswith("Fused"):
            raise UsageError(
                f"the K and V projections of {name} are fused", hint="call pipe.unfuse_qkv_projections() first"
            )
        if hasattr(processor, "to_k_custom_diffusion"):
            raise UsageError(
                f"{name} has K and V projections of its own: {type(processor).__name__}",
                hint="call pipe.unet.set_default_attn_processor() first",
            )


def check_not_fused(unet: Any) -> None:
    """Refuse K and V weights that contain the product of a LoRA: they are not those of the base model.

    Raises:
        UsageError: by the name of the adapter.
    """
    for name, module in unet.named_modules():
        if name.endswith(SITES) and (adapters := getattr(module, "merged_adapters", ())):
            raise UsageError(f"the adapter {adapters[0]!r} is fused into {name}", hint="call pipe.unfuse_lora() first")


class WithoutAdapters:
    """A text encoder as a fingerprint reads it: the parameters that it has without PEFT's adapters."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.config = encoder, encoder.config

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        """Names and values, in the order of the encoder."""
        wrappers = [name for name, module in self.encoder.named_modules() if hasattr(module, WRAPPED)]
        for name, value in self.encoder.named_parameters():
            inside = [w for w in wrappers if name.startswith(f"{w}.")]
            if all(name.startswith(f"{w}.{WRAPPED}.") for w in inside):
                yield name.replace(f".{WRAPPED}.", "."), value
