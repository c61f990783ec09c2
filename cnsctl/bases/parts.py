"""Reading the parts of a pipeline folder, as the family's declaration lists them.

Owns how a part is read; must not know the families or what the parts are used for.
"""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from cnsctl.bases import original_weights, samplers
from cnsctl.bases.libraries import quiet_libraries
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from pathlib import Path

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.family import Part

UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    AttributeError,
    RuntimeError,
    TypeError,
    ImportError,
    NotImplementedError,
    SafetensorError,
)
"""What the libraries raise about files that they cannot use."""


def load_parts(folder: BaseFolder) -> dict[str, Any]:
    """Load every part of a pipeline, by name: modules in evaluation mode, without gradients.

    Raises:
        BaseModelError: a part cannot be loaded.
    """
    quiet_libraries()
    family = folder.family
    try:
        return {part.name: _read(folder, part) for part in family.parts}
    except UNREADABLE as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise BaseModelError(
            f"cannot load {folder.shown} as {family.title}: {reason}",
            hint="give a checkpoint that contains all parts, or a diffusers folder"
            if folder.single_file is not None
            else f"give a folder written by diffusers' {family.pipelines[0]}.save_pretrained, with safetensors weights",
        ) from err


def _read(base: BaseFolder, part: Part) -> Any:
    path = base.path
    if part.kind is None:
        return _scheduler(base, part)
    library, name = part.kind.split(".")
    kind = getattr(importlib.import_module(library), name)
    if part.weights is None:
        return kind.from_pretrained(path / part.name, local_files_only=True)
    if base.single_file is not None:
        return original_weights.read_module(base.single_file, path / part.name, part, kind)
    return _module(path / part.name, kind, part, dtype_option="torch_dtype" if library == "diffusers" else "dtype")


def _module(folder: Path, kind: Any, part: Part, *, dtype_option: str) -> torch.nn.Module:
    """A part with weights, none of which is missing."""
    dtype = stored_dtype(folder) if part.weights == "stored" else torch.float32
    half = {"variant": "fp16"} if _only_half(folder) else {}
    module, report = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **{dtype_option: dtype}, **half
    )
    if absent := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise ValueError(f"{len(absent)} weights of {part.name} are missing, such as {min(map(str, absent))}")
    loaded: torch.nn.Module = module.eval().requires_grad_(requires_grad=False)
    return loaded


def _scheduler(base: BaseFolder, part: Part) -> Any:
    import diffusers

    path = base.path
    config = samplers.read_config(path / part.name)
    if base.prediction is not None:
        config["prediction_type"] = base.prediction.value
    if "beta_start" not in config and config.get("trained_betas") is None:
        raise ValueError("the configuration of its scheduler contains no noise schedule")
    index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
    name = index.get(part.name, [None, config["_class_name"]])[1]  # as the stock pipeline chooses
    return getattr(diffusers, name).from_config(config)


def _only_half(folder: Path) -> bool:
    """Whether a part has an fp16 variant of its weights and no other."""
    names = [p.name for p in folder.glob("*.safetensors")]
    return bool(names) and all(".fp16" in name for name in names)


def stored_dtype(folder: Path) -> torch.dtype:
    """The dtype of a part's stored weights: half precision if all of them have it, else fp32."""
    from safetensors import safe_open

    kinds = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            kinds |= {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118  not a mapping
    return {("F16",): torch.float16, ("BF16",): torch.bfloat16}.get(tuple(kinds), torch.float32)
