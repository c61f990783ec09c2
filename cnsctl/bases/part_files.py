"""The files of a pipeline folder that are loaded: of several copies of the weights, one.

Owns the choice, which is that of the libraries; must not know the families or what the files contain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from cnsctl.bases.config_files import read_json, refuse_pointer
from cnsctl.errors import BaseModelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cnsctl.bases.family import Part

INDEX = "model_index.json"
"""The list of a pipeline's parts."""

SETTINGS_FILE = "cnsctl.json"
"""Optional file in a base model's folder: its name, and its own defaults for training and generating."""

CONFIG_FILE, SCHEDULER_FILE = "config.json", "scheduler_config.json"
CONFIGURATIONS = (CONFIG_FILE, SCHEDULER_FILE)
"""The configuration of a part: of a model, of a scheduler."""

CLIP_PARTS = ("image_encoder", "feature_extractor")
CLIP_PROJECTION = "text_projection.safetensors"
"""Beside `image_encoder/`: completes the pipeline's text encoder and the image encoder to a CLIP."""

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
"""Suffixes of weights in pickles, which are never read."""

OTHER_FORMATS = (".msgpack", ".onnx", ".h5", ".gguf")
"""Suffixes of weights in formats of other libraries."""

_STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""How each library names a file of weights."""

_VARIANTS = ("fp16", "bf16", "fp32", "ema")
"""Variants of the weights, if the file without a variant is missing: the first of these, else by name."""

_TOKENIZER_SUFFIXES = (".json", ".txt", ".model")
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",))
"""Files of which a tokenizer needs one set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weights of a part: one file, or shards with their index."""

    files: tuple[Path, ...]
    index: Path | None
    variant: str | None
    """Such as `fp16`, as the libraries call it; None for the usual files."""


def loaded_files(base: Path, parts: Iterable[Part], *, with_weights: bool = True) -> list[str]:
    """The files that loading a base model reads, as POSIX paths relative to its folder, sorted.

    Args:
        base: its folder.
        parts: what its family loads.
        with_weights: without, only the configuration (of a single-file checkpoint).

    Raises:
        BaseModelError: one is missing, or the weights are in a format that is not read.
    """
    found = [base / INDEX]
    found += [base / SETTINGS_FILE] if (base / SETTINGS_FILE).is_file() else []
    for part in parts:
        found += part_files(base, part, with_weights=with_weights)
    if has_clip(base):
        for name in CLIP_PARTS:
            found += sorted(path for path in (base / name).glob("*.json") if path.is_file())
        found += [*_chosen(base / "image_encoder", "model"), base / CLIP_PROJECTION]
    return sorted(path.relative_to(base).as_posix() for path in found)


def has_clip(base: Path) -> bool:
    """Does the folder contain the image half of a CLIP?"""
    needed = ("image_encoder/config.json", "feature_extractor/preprocessor_config.json", CLIP_PROJECTION)
    return all((base / name).is_file() for name in needed)


def part_files(base: Path, part: Part, *, with_weights: bool = True) -> list[Path]:
    """The files of one part.

    Raises:
        BaseModelError: one is missing, or the weights are in a format that is not read.
    """
    folder = base / part.name
    if not folder.is_dir():
        raise BaseModelError(
            f"{part.name}/ is missing in {base}", hint="download the whole folder, or give the folder of a pipeline"
        )
    if part.kind is None:
        return [_existing(folder / SCHEDULER_FILE)]
    if part.weights is None:
        return _tokenizer_files(folder)
    files = [_existing(folder / CONFIG_FILE)]
    if with_weights:
        weights = weights_of(base, part)
        files += [*weights.files, *([weights.index] if weights.index else [])]
    return files


def weights_of(base: Path, part: Part) -> Weights:
    """The weights of a part that are loaded: the usual ones, else an fp16 variant, else another one.

    Raises:
        BaseModelError: it has none in safetensors files, or they are incomplete.
    """
    library = str(part.kind).partition(".")[0]
    folder, stem = base / part.name, _STEMS[library]
    names = _names_in(folder)
    single = _variants(names, rf"{stem}(?:\.(?P<variant>[\w-]+))?\.safetensors")
    sharded = _variants(names, rf"{stem}\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")
    variants = {*single, *sharded}
    if not variants:
        _refuse_without_weights(base, folder, names, stem)
    variant = min(variants, key=_order)
    # of both, diffusers reads the shards, and transformers the single file
    if variant in sharded and not (variant in single and library == "transformers"):
        index = folder / sharded[variant]
        return Weights(files=_shards(folder, index), index=index, variant=variant)
    file = folder / single[variant]
    refuse_pointer(file)
    return Weights(files=(file,), index=None, variant=variant)


def weight_names(names: Iterable[str], kind: str | None) -> list[str]:
    """Of the names in a part's folder, those of the weights that are loaded, with their index; none if there are none.

    Args:
        names: of files.
        kind: the class that reads them, such as `diffusers.AutoencoderKL`.
    """
    library = str(kind).partition(".")[0]
    stem, names = _STEMS[library], list(names)
    single = _variants(names, rf"{stem}(?:\.(?P<variant>[\w-]+))?\.safetensors")
    sharded = _variants(names, rf"{stem}\.safetensors\.index(?:\.(?P<variant>[\w-]+))?\.json")
    if not single and not sharded:
        return []
    variant = min({*single, *sharded}, key=_order)
    if variant in sharded and not (variant in single and library == "transformers"):
        marked = stem if variant is None else rf"{stem}\.{re.escape(variant)}"
        return [sharded[variant], *(n for n in names if re.fullmatch(rf"{marked}-\d+-of-\d+\.safetensors", n))]
    return [single[variant]]


def _variants(names: Iterable[str], pattern: str) -> dict[str | None, str]:
    """Variant → name of a file, for the names that match."""
    found = (re.fullmatch(pattern, name) for name in names)
    return {match["variant"]: match[0] for match in found if match}


def _order(variant: str | None) -> tuple[int, str]:
    if variant is None:
        return 0, ""
    return (1 + _VARIANTS.index(variant), "") if variant in _VARIANTS else (1 + len(_VARIANTS), variant)


def _shards(folder: Path, index: Path) -> tuple[Path, ...]:
    """The files that an index lists."""
    where = read_json(index).get("weight_map")
    names = set(where.values()) if isinstance(where, dict) else set()
    if not names or any(not isinstance(name, str) or "/" in name or "\\" in name for name in names):
        raise BaseModelError(f"not an index of weights: {index}", hint="restore the folder of the base model")
    files = tuple(_existing(folder / name) for name in sorted(names))
    for file in files:
        refuse_pointer(file)
    return files


def _chosen(folder: Path, stem: str) -> list[Path]:
    """The weights of a folder that belongs to no part of a family."""
    single = _variants(_names_in(folder), rf"{stem}(?:\.(?P<variant>[\w-]+))?\.safetensors")
    return [folder / single[min(single, key=_order)]] if single else []


def _tokenizer_files(folder: Path) -> list[Path]:
    if not any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES):
        raise BaseModelError(
            f"the vocabulary is missing in {folder}",
            note="a tokenizer needs tokenizer.json, or vocab.json and merges.txt",
            hint="download the whole folder",
        )
    found = sorted(path for path in folder.iterdir() if path.suffix in _TOKENIZER_SUFFIXES and path.is_file())
    for path in found:
        refuse_pointer(path)
    return found


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise BaseModelError(f"file of the base model not found: {path}", hint="download the whole folder")
    return path


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _refuse_without_weights(base: Path, folder: Path, names: Iterable[str], stem: str) -> NoReturn:
    """Refuse a part without safetensors weights under the usual names, with what it has instead."""
    pickles = [name for name in names if name.endswith(PICKLES)]
    others = [name for name in names if name.endswith((*OTHER_FORMATS, ".safetensors"))]
    if pickles:
        raise BaseModelError(
            f"the weights of {folder} are in a pickle: {pickles[0]}",
            note="pickles are not read, because reading one can run any program",
            hint=conversion(base),
        )
    raise BaseModelError(
        f"the weights of {folder} are missing: {stem}.safetensors",
        note=f"it contains {', '.join(others)}" if others else None,
        hint="download the whole folder",
    )


def conversion(base: Path) -> str:
    """How to write a folder with safetensors weights, in two lines of diffusers."""
    new = f"{base}-safetensors"
    return (
        "if you trust its source, convert it: from diffusers import DiffusionPipeline as P; "
        f'P.from_pretrained("{base}").save_pretrained("{new}")'
    )
