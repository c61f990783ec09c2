"""Folders of base models on disk: detecting the family, and the defaults that a base model brings.

Owns what a folder says about itself; must not know the libraries that load it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl.bases import registry
from cnsctl.errors import BaseModelError, InvalidSettingError
from cnsctl.settings import GenerateSettings, Prediction, TrainSettings, checked, complete

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.bases.family import Family

POCKET = Path(__file__).parent / "pocket"
"""The base model inside the package: a stock pipeline folder."""

SETTINGS_FILE = "cnsctl.json"
"""Optional file in a base model's folder: its name, and its own defaults for training and generating."""

DENOISER_SHARE = 0.0013
"""Share of the denoiser's weights that one concept may change, if a base model brings no budget: the paper's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameterization:
    """How a base model denoises, as its configuration says it."""

    prediction: str
    """Such as `epsilon` or `v_prediction`."""
    zero_snr: bool
    """The noise schedule ends without any signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFolder:
    """The folder of a base model of a supported family, with its defaults."""

    path: Path
    """Contains the configuration of each part, and its weights if they are not in a single file."""
    family: Family
    name: str
    single_file: Path | None = None
    """The checkpoint that contains the weights of all parts."""
    prediction: Prediction | None = None
    """What the denoiser predicts, if the store's owner said so; else the configuration of the scheduler says it."""
    train: Mapping[str, Any]
    """Fields of `TrainSettings`."""
    generate: Mapping[str, Any]
    """Fields of `GenerateSettings`."""

    @property
    def shown(self) -> Path:
        """What messages name: the single file, or the folder."""
        return self.path if self.single_file is None else self.single_file

    @property
    def size(self) -> int:
        """Width and height that the base model was trained at: its own setting, else from the denoiser and the decoder.

        Raises:
            BaseModelError: a configuration file does not contain it.
        """
        if "width" in self.generate:
            return int(self.generate["width"])
        side = _read_json(self.path / self.family.denoiser / "config.json").get("sample_size")
        blocks = _read_json(self.path / self.family.decoder / "config.json").get("block_out_channels", [64])
        if not isinstance(side, int) or not isinstance(blocks, list):
            raise BaseModelError(
                f"resolution of the base model not found in {self.path}: sample_size is {side!r}",
                hint=f'add "generate": {{"width": 512, "height": 512}} to {self.path / SETTINGS_FILE}',
            )
        return int(side * 2 ** (len(blocks) - 1))

    @property
    def parameterization(self) -> Parameterization:
        """What its denoiser predicts, and whether its noise schedule ends at zero SNR, without loading it.

        Raises:
            BaseModelError: the configuration of its scheduler cannot be read.
        """
        config = _read_json(self.path / self.family.scheduler / "scheduler_config.json")
        said = config.get("prediction_type", "epsilon") if self.prediction is None else self.prediction
        return Parameterization(prediction=str(said), zero_snr=bool(config.get("rescale_betas_zero_snr", False)))

    @property
    def loaded_bytes(self) -> int:
        """The size on disk of the files that loading reads."""
        from cnsctl.bases.hashing import loaded_files

        found = sum(
            (self.path / name).stat().st_size
            for name in loaded_files(self.path, (part.name for part in self.family.parts))
            if (self.path / name).is_file()
        )
        return found + (0 if self.single_file is None else self.single_file.stat().st_size)

    def generate_settings(self, size: int) -> GenerateSettings:
        """Its defaults for generating, with this width and height if it brings none."""
        settings: GenerateSettings = complete(GenerateSettings, {"width": size, "height": size}, self.generate)
        return settings


CLIP_FILES = ("image_encoder/config.json", "feature_extractor/preprocessor_config.json", "text_projection.safetensors")
"""What a folder contains beside its text encoder if the two halves of its CLIP are complete, as pocket's."""


def has_clip(path: Path) -> bool:
    """Does the folder of a base model contain the image half of its text encoder?"""
    return all((path / name).is_file() for name in CLIP_FILES)


def default_budget(*, kv_weights: int, denoiser_weights: int) -> float:
    """Share of the K/V weights that is `DENOISER_SHARE` of the denoiser: 0.058 on SD 1.5, 0.044 on SD 2.x."""
    return min(1.0, round(DENOISER_SHARE * denoiser_weights / kv_weights, 4))


def open_folder(
    path: Path, *, single_file: Path | None = None, prediction: Prediction | None = None, name: str | None = None
) -> BaseFolder:
    """Read what a diffusers folder says about itself, without loading a weight.

    Args:
        path: the folder.
        single_file: the checkpoint with the weights, if the folder contains only its configuration.
        prediction: what the denoiser predicts, whatever the folder says.
        name: of the base model, whatever the folder says.

    Raises:
        BaseModelError: the folder is missing, contains no pipeline, or is of an unsupported family.
    """
    index = path / "model_index.json"
    if not path.is_dir():
        raise BaseModelError(f"base model not found: {path}", reason="base-missing")
    if not index.is_file():
        raise BaseModelError(
            f"model_index.json not found in {path}", hint="give the top folder of a diffusers pipeline"
        )
    kind = _read_json(index).get("_class_name")
    family = registry.family_of(kind)
    if family is None:
        raise BaseModelError(
            f"unsupported base model: {path} is a {kind}",
            note=f"supported: {', '.join(name for f in registry.FAMILIES for name in f.pipelines)}",
            hint=f"give a folder of {' or '.join(f.title for f in registry.FAMILIES)}",
        )
    settings = _read_json(path / SETTINGS_FILE) if (path / SETTINGS_FILE).is_file() else {}
    return BaseFolder(
        path=path,
        family=family,
        name=_one_line(str(settings.get("name", path.resolve().name))) if name is None else name,
        single_file=single_file,
        prediction=prediction,
        train={**family.train, **_defaults(path, settings, "train", TrainSettings)},
        generate={**family.generate, **_defaults(path, settings, "generate", GenerateSettings)},
    )


def _defaults(path: Path, settings: Mapping[str, Any], table: str, kind: type) -> Mapping[str, Any]:
    """The defaults that a base model brings, checked.

    Raises:
        BaseModelError: one of them is unknown or out of range.
    """
    where, found = path / SETTINGS_FILE, settings.get(table, {})
    if not isinstance(found, dict):
        raise BaseModelError(f'"{table}" must be an object: {where}', hint="fix it or delete it")
    try:
        return checked(kind, found)
    except InvalidSettingError as err:
        raise BaseModelError(f"{where}: {table}: {err.what}", note=err.note, hint="fix it or delete it") from err


def _one_line(text: str) -> str:
    """A name that fits into a table."""
    return "".join(c if c.isprintable() else "?" for c in text)[:80] or "base"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise BaseModelError(f"cannot read {path}: {err}", hint="restore the folder of the base model") from err
    if not isinstance(data, dict):
        raise BaseModelError(f"not a JSON object: {path}", hint="restore the folder of the base model")
    return data
