"""Folders of base models on disk: detecting the family, and the defaults that a base model brings.

Owns what a folder says about itself; must not know the libraries that load it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from cnsctl.bases import distilled, registry
from cnsctl.bases.config_files import read_json
from cnsctl.bases.hub_cache import repository_of, snapshot_of
from cnsctl.bases.part_files import CONFIG_FILE, INDEX, SCHEDULER_FILE, SETTINGS_FILE, loaded_files
from cnsctl.bases.refusals import refuse_missing, refuse_other_file, refuse_pipeline, refuse_without_index
from cnsctl.errors import BaseModelError, InvalidSettingError
from cnsctl.settings import GenerateSettings, Prediction, TrainSettings, checked, complete, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cnsctl.bases.family import Family

POCKET = Path(__file__).parent / "pocket"
"""The base model inside the package: a stock pipeline folder."""

DENOISER_SHARE = 0.0013
"""Share of the denoiser's weights that one concept may change, if a base model brings no budget: the paper's."""


_WIDTH = settings_of(GenerateSettings)["width"]
_MIN_SIDE, _MAX_SIDE, _MULTIPLE = int(_WIDTH.low or 8), int(_WIDTH.high or 4096), _WIDTH.multiple_of
_MAX_BLOCKS = 8


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
    index: Mapping[str, Any]
    """`model_index.json`."""
    single_file: Path | None = None
    """The checkpoint that contains the weights of all parts."""
    prediction: Prediction | None = None
    """What the denoiser predicts, if the store's owner said so; else the configuration of the scheduler says it."""
    train: Mapping[str, Any]
    """Fields of `TrainSettings`."""
    generate: Mapping[str, Any]
    """Fields of `GenerateSettings`."""
    usual: Mapping[str, tuple[float, float]]
    """The usual range of scores on it, by name (`metrics/verdict.py`); empty if it is not calibrated."""
    notes: tuple[str, ...] = ()
    """What its owner should read once: what the folder does not say, and what is used instead."""

    @property
    def shown(self) -> Path:
        """What messages name: the single file, or the folder."""
        return self.path if self.single_file is None else self.single_file

    def files(self) -> list[str]:
        """The files of its folder that are loaded, as relative POSIX paths, sorted.

        Raises:
            BaseModelError: one is missing.
        """
        return loaded_files(self.path, self.family.parts, with_weights=self.single_file is None)

    @property
    def parameterization(self) -> Parameterization:
        """What its denoiser predicts, and whether its noise schedule ends at zero SNR, without loading it.

        Raises:
            BaseModelError: the configuration of its scheduler cannot be read.
        """
        config = read_json(self.path / self.family.scheduler / SCHEDULER_FILE)
        said = config.get("prediction_type", "epsilon") if self.prediction is None else self.prediction
        return Parameterization(prediction=str(said), zero_snr=bool(config.get("rescale_betas_zero_snr", False)))

    @property
    def loaded_bytes(self) -> int:
        """The size on disk of the files that loading reads."""
        found = sum((self.path / name).stat().st_size for name in self.files())
        return found + (0 if self.single_file is None else self.single_file.stat().st_size)

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of its images: its own setting, else from the denoiser and the decoder, else the family's."""
        height, width = _resolution(self.path, self.family)
        width = int(self.generate.get("width", self.generate.get("height", width)))
        return int(self.generate.get("height", self.generate.get("width", height))), width

    @property
    def size(self) -> int:
        """Side of a square image of its resolution's area: 512 for 512 × 512."""
        height, width = self.resolution
        return height if height == width else _rounded(math.sqrt(height * width), _MULTIPLE)

    def part_settings(self, part: str) -> Mapping[str, Any]:
        """The configuration of a part as its file contains it, with its class but without a library's version and paths.

        Raises:
            BaseModelError: the file cannot be read.
        """
        file = SCHEDULER_FILE if part == "scheduler" else CONFIG_FILE
        found = read_json(self.path / part / file).items()
        return {k: v for k, v in found if not k.startswith("_") or k == "_class_name"}

    @property
    def coarsest(self) -> int:
        """Pixels per side of an image that are one at the denoiser's coarsest level; sides are multiples of it."""
        denoiser = _config(self.path, self.family.denoiser)
        blocks, patch = denoiser.get("block_out_channels"), denoiser.get("patch_size")
        latent = _pixels_per_latent(_config(self.path, self.family.decoder))
        if isinstance(blocks, list) and 1 <= len(blocks) <= _MAX_BLOCKS:
            return int(latent * 2 ** (len(blocks) - 1))
        return latent * patch if type(patch) is int and 0 < patch <= _MAX_SIDE else latent

    def generate_settings(self) -> GenerateSettings:
        """Its defaults for generating."""
        height, width = self.resolution
        settings: GenerateSettings = complete(GenerateSettings, {"width": width, "height": height}, self.generate)
        return settings


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
    path = snapshot_of(path)
    if not path.exists():
        refuse_missing(path)
    if not path.is_dir():
        refuse_other_file(path)
        refuse_missing(path)  # a checkpoint, which is opened before this call
    if not (path / INDEX).is_file():
        refuse_without_index(path)
    index = read_json(path / INDEX)
    family = registry.family_of(index)
    if family is None:
        refuse_pipeline(path, index, registry.FAMILIES)
    settings = read_json(path / SETTINGS_FILE) if (path / SETTINGS_FILE).is_file() else {}
    name = _name(path, settings) if name is None else name
    few = _distilled(path, index, name)
    own = _defaults(path, settings, "generate", GenerateSettings)
    found = BaseFolder(
        path=path,
        family=family,
        name=name,
        index=index,
        single_file=single_file,
        prediction=prediction,
        train={**family.train, **_defaults(path, settings, "train", TrainSettings)},
        generate={**family.generate, **({} if few is None else few.generate), **own},
        usual=_usual(path, settings),
    )
    return replace(found, notes=tuple(_notes(found, few, own)))


def _name(path: Path, settings: Mapping[str, Any]) -> str:
    """Its own name, else that of its repository, else that of its folder."""
    return _one_line(str(settings.get("name") or repository_of(path) or path.resolve().name))


def _distilled(path: Path, index: Mapping[str, Any], name: str) -> distilled.Distilled | None:
    file = path / "scheduler" / SCHEDULER_FILE
    scheduler = read_json(file) if file.is_file() else {}
    return distilled.distilled(scheduler, [name, index.get("_name_or_path"), path.resolve().name])


def _notes(folder: BaseFolder, few: distilled.Distilled | None, own: Mapping[str, Any]) -> Iterator[str]:
    """What a user should read once about a folder."""
    if few is not None and not own.keys() & few.generate.keys():
        yield f"this base model looks distilled: {few.why}; default: {few.steps} inference steps, guidance scale 1"
    if not {"width", "height"} & own.keys() and _own_resolution(folder.path, folder.family) is None:
        height, width = folder.resolution
        yield f"{folder.family.denoiser}/config.json contains no image size; default: {width} × {height} pixels"


def _resolution(path: Path, family: Family) -> tuple[int, int]:
    """Height and width: of the denoiser's latents, else of the decoder, else the family's; multiples of 8."""
    decoder = _config(path, family.decoder)
    side = decoder.get("sample_size")
    known = side if _is_size(side) else family.size
    found = _own_resolution(path, family) or (known, known)
    unit = math.lcm(_MULTIPLE, _pixels_per_latent(decoder))
    height, width = (_rounded(side, unit) for side in found)
    return height, width


def _own_resolution(path: Path, family: Family) -> tuple[int, int] | None:
    """Height and width in pixels, if the denoiser's configuration contains its size: one number, or height and width."""
    size = _config(path, family.denoiser).get("sample_size")
    sides = [size, size] if _is_size(size) else size
    if not isinstance(sides, list) or len(sides) != 2 or not all(_is_size(side) for side in sides):
        return None
    pixels = _pixels_per_latent(_config(path, family.decoder))
    return sides[0] * pixels, sides[1] * pixels


def _config(path: Path, part: str) -> dict[str, Any]:
    """The configuration of a part; empty if the file is missing, which loading refuses."""
    file = path / part / CONFIG_FILE
    return read_json(file) if file.is_file() else {}


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= _MAX_SIDE


def _pixels_per_latent(decoder: Mapping[str, Any]) -> int:
    blocks = decoder.get("block_out_channels", [64])
    return int(2 ** (len(blocks) - 1)) if isinstance(blocks, list) and 1 <= len(blocks) <= _MAX_BLOCKS else 8


def _rounded(side: float, unit: int) -> int:
    """The nearest multiple that is a valid width."""
    return min(max(round(side / unit), math.ceil(_MIN_SIDE / unit)), _MAX_SIDE // unit) * unit


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


def _usual(path: Path, settings: Mapping[str, Any]) -> Mapping[str, tuple[float, float]]:
    """The usual ranges that a base model brings, checked.

    Raises:
        BaseModelError: one of them is not a lower and an upper number.
    """
    found = settings.get("usual", {})
    if not isinstance(found, dict) or not all(_is_range(value) for value in found.values()):
        raise BaseModelError(
            f'"usual" must have a lower and an upper number for each score: {path / SETTINGS_FILE}',
            hint="fix it or delete it",
        )
    return {name: (float(low), float(high)) for name, (low, high) in found.items()}


def _is_range(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2 or any(type(limit) not in (int, float) for limit in value):
        return False
    return all(math.isfinite(limit) for limit in value) and value[0] < value[1]


def _one_line(text: str) -> str:
    """A name that fits into a table."""
    return "".join(c if c.isprintable() else "?" for c in text)[:80] or "base"
