"""Writing a base model as a diffusers folder, with other K and V weights and with more tokens.

Parts that do not change are copied, file by file. Those that change are written by their own libraries in the precision
of their files.

Owns the files of the new folder; must not know concepts or the store.
"""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from cnsctl.bases.config_files import read_json
from cnsctl.bases.libraries import quiet_libraries
from cnsctl.bases.part_files import CONFIG_FILE, INDEX, PICKLES, SCHEDULER_FILE, part_files, weights_of
from cnsctl.bases.parts import load_part, stored_dtype
from cnsctl.bases.unreadable import naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from cnsctl.bases.base_folder import BaseFolder
    from cnsctl.bases.family import Part

_LEGACY_END = 2
"""In old configurations of CLIP: the pooled output is read at the largest token id, which a new token would be."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changes:
    """What differs from the base model."""

    sites: Mapping[str, Callable[[], NDArray[np.float32]]]
    """Per site: reads its new weight, (rows, columns)."""
    tokens: Mapping[str, Mapping[str, NDArray[np.float32]]]
    """Per text encoder: new tokens with their embeddings, (width,)."""


_CHANGED = ("vocab_size", "eos_token_id")
"""What new tokens change in a configuration."""


def write_folder(folder: BaseFolder, target: Path, changes: Changes) -> None:
    """Write a base model as a pipeline folder.

    Args:
        folder: of the base model.
        target: an empty folder.
        changes: what differs.

    Raises:
        BaseModelError: the base model cannot be loaded.
        OSError: the folder cannot be written.
    """
    quiet_libraries()
    family = folder.family
    for part in family.parts:
        to, files = target / part.name, part_files(folder.path, part, with_weights=folder.single_file is None)
        if part.name == family.denoiser:
            _save(folder, part, files, to, partial(_set_sites, sites=changes.sites))
        elif part.name in changes.tokens:
            tokens = changes.tokens[part.name]
            tokenizer = _save_tokenizer(folder, part, target, tokens)
            _save(folder, part, files, to, partial(_set_tokens, tokens=tokens, tokenizer=tokenizer))
        elif part.weights is not None and folder.single_file is not None:
            _save(folder, part, files, to, lambda _: None)
        elif part.name not in {tokenizer_of(encoder) for encoder in changes.tokens}:
            _copy(files, to)
    _copy_index(folder, target)
    if folder.prediction is not None:  # the owner's word, which the configuration contradicts
        file = target / family.scheduler / SCHEDULER_FILE
        _write_json(file, {**read_json(file), "prediction_type": folder.prediction.value})


def tokenizer_of(encoder: str) -> str:
    """The tokenizer of a text encoder: `text_encoder_2` has `tokenizer_2`."""
    return encoder.replace("text_encoder", "tokenizer")


def _save(folder: BaseFolder, part: Part, files: list[Path], target: Path, change: Callable[[Any], None]) -> None:
    """Load a part, change it, and save it in the precision of its file."""
    model = load_part(folder, part, files)
    change(model)
    if folder.single_file is None:
        model.to(stored_dtype(weights_of(folder.path, part)))
    else:
        from cnsctl.bases.original_weights import part_dtype

        model.to(part_dtype(folder.single_file, part.name))
    try:
        model.save_pretrained(target)
    except SafetensorError as err:  # of the disk: the library has no other class for it
        raise OSError(errno.EIO, str(err)) from err
    own = read_json(folder.path / part.name / CONFIG_FILE)  # the library's copy contains a path of this machine
    new = model.config
    _write_json(target / CONFIG_FILE, {**own, **{key: getattr(new, key) for key in _CHANGED if hasattr(new, key)}})


def _set_sites(denoiser: torch.nn.Module, sites: Mapping[str, Callable[[], NDArray[np.float32]]]) -> None:
    named = dict(denoiser.named_parameters())
    with torch.no_grad():
        for site, weight in sites.items():
            named[f"{site}.weight"].copy_(torch.from_numpy(weight()))


def _set_tokens(encoder: Any, tokens: Mapping[str, NDArray[np.float32]], tokenizer: Any) -> None:
    """Give a text encoder a row for each new token."""
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    if (needed := max(ids) + 1) > len(encoder.get_input_embeddings().weight):
        encoder.resize_token_embeddings(needed, mean_resizing=False)
    table = encoder.get_input_embeddings().weight
    with torch.no_grad():
        for row, vector in zip(ids, tokens.values(), strict=True):
            table[row] = torch.from_numpy(vector).to(table)
    if getattr(encoder.config, "eos_token_id", None) == _LEGACY_END:
        encoder.config.eos_token_id = tokenizer.eos_token_id


def _save_tokenizer(folder: BaseFolder, encoder: Part, target: Path, tokens: Iterable[str]) -> Any:
    """Write the tokenizer of a text encoder with new tokens. Returns it."""
    (part,) = (p for p in folder.family.parts if p.name == tokenizer_of(encoder.name))
    files = part_files(folder.path, part)
    _copy(files, target / part.name)  # older versions of the library read vocab.json, which newer ones do not write
    tokenizer = load_part(folder, part, files)
    tokenizer.add_tokens(list(tokens))
    tokenizer.save_pretrained(target / part.name)
    return tokenizer


def _copy_index(folder: BaseFolder, target: Path) -> None:
    """Copy the list of parts, and the parts that cnsctl does not load, such as the safety checker; pickles are left out."""
    index = dict(folder.index)
    known = {part.name for part in folder.family.parts}
    for name, entry in folder.index.items():
        if name.startswith("_") or name in known or not (isinstance(entry, list) and any(entry)):
            continue
        files = [p for p in sorted((folder.path / name).glob("*")) if p.is_file() and p.suffix not in PICKLES]
        if any(p.suffix == ".safetensors" for p in files) or (files and name == "feature_extractor"):
            _copy(files, target / name)
        else:
            index[name] = [None, None]
            if name == "safety_checker":
                index["requires_safety_checker"] = False
    _write_json(target / INDEX, index)


def _copy(files: list[Path], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with naming(files):
        for file in files:
            shutil.copyfile(file, target / file.name)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
