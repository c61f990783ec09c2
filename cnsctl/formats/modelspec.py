"""Texts in the header of an exported file, which model managers show.

Owns the keys that SwarmUI, managers of ComfyUI, and A1111 read; must not know tensors.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.formats.contents import Outgoing

TOKEN, CLASS_WORD = "cnsctl.token", "cnsctl.class_word"
"""Keys of cnsctl's own texts in exported files."""

_IMPLEMENTATION = "https://github.com/Stability-AI/generative-models"
_MAX_TEXT, _MAX_TEXTS = 2000, 200


def trigger(concept: Outgoing) -> str:
    """What a prompt contains: `<dog> dog`."""
    return " ".join(filter(None, (concept.token, concept.class_word)))


def adapter(concept: Outgoing, *, module: str, rank: int | None = None) -> dict[str, str]:
    """The texts of a file of weights.

    Args:
        concept: what it contains.
        module: the training module whose files look like this: `networks.lora`.
        rank: of a LoRA.
    """
    found = _common(concept, "lora") | {"ss_network_module": module}
    if rank is not None:
        found |= {"ss_network_dim": str(rank), "ss_network_alpha": str(float(rank))}
    return found | dict(concept.metadata)


def weights(concept: Outgoing) -> dict[str, str]:
    """The texts of a file of whole weights, which model managers know no kind of."""
    return _common(concept, None) | dict(concept.metadata)


def embedding(concept: Outgoing) -> dict[str, str]:
    """The texts of a textual inversion."""
    return _common(concept, "textual-inversion") | dict(concept.metadata)


def _common(concept: Outgoing, kind: str | None) -> dict[str, str]:
    width, height = concept.resolution
    phrase, name = trigger(concept), concept.token.strip("<>")
    found = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": _IMPLEMENTATION,
        "modelspec.title": name,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.prediction_type": "v" if _predicts_v(concept) else "epsilon",
        "modelspec.trigger_phrase": phrase,
        "ss_output_name": name,
        "ss_tag_frequency": json.dumps({name: {phrase: 1}}, ensure_ascii=True),
        TOKEN: concept.token,
        CLASS_WORD: concept.class_word,
    }
    if kind and (architecture := _architecture(concept)):
        found["modelspec.architecture"] = f"{architecture}/{kind}"
        found["ss_base_model_version"] = _version(concept)
        found["ss_v2"] = str(concept.width == 1024)
    return {key: text for key, text in found.items() if text}


def _predicts_v(concept: Outgoing) -> bool:
    return concept.prediction.startswith("v")


def _architecture(concept: Outgoing) -> str | None:
    """By family and text width; None for a base model that no other program can have."""
    match concept.family, concept.width:
        case "sd1", 768:
            return "stable-diffusion-v1"
        case "sd1", 1024:
            return "stable-diffusion-v2-768-v" if _predicts_v(concept) else "stable-diffusion-v2-512"
        case "sdxl", 2048:
            return "stable-diffusion-xl-v1-base"
    return None


def _version(concept: Outgoing) -> str:
    """The name of the base model in sd-scripts."""
    if concept.family == "sdxl":
        return "sdxl_base_v1-0"
    name = "sd_v2" if concept.width == 1024 else "sd_v1"
    return f"{name}_v" if _predicts_v(concept) else name


def readable(metadata: Mapping[str, str]) -> dict[str, str]:
    """The texts of a file of another program: printable, and of bounded length and number."""
    kept = {k: t for k, t in metadata.items() if len(k) <= 200 and len(t) <= _MAX_TEXT and (k + t).isprintable()}
    return {key: kept[key] for key in sorted(kept)[:_MAX_TEXTS]}
