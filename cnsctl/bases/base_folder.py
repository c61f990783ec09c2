"""Base folders on disk: recognising a family, and defaults that travel with a base.

Owns what a folder says about itself; must not know the libraries that load it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl.errors import BaseProblem
from cnsctl.specs import DRAW_LIMITS, LEARN_LIMITS, DrawSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

POCKET = Path(__file__).parent / "pocket"
"""The embedded base: a stock pipeline folder inside the package."""

SETTINGS_FILE = "cnsctl.json"
"""Optional file in a base's folder: its name and its own defaults of learning and drawing."""

FAMILIES = {"StableDiffusionPipeline": "sd1"}
"""Pipeline class → family."""

LEARN: Mapping[str, float | int] = {
    "steps": 250,
    "batch": 4,
    "rate_values": 4e-5,
    "rate_vectors": 5e-4,
    "lambda_prev": 0.05,
    "lambda_base": 0.002,
}
"""For bases that bring no settings: Custom Diffusion's 1e-5 × batch size and 250 steps. Untuned here."""

DENOISER_SHARE = 0.0013
"""Share of the denoiser's weights that one concept may change, where a base brings no budget: the paper's."""

DRAW: Mapping[str, float | int | str] = {"steps": 30, "guidance": 7.5, "sampler": "base"}
"""For bases that bring no settings: what Stable Diffusion's own examples use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFolder:
    """A folder that names a family we know, with its defaults."""

    path: Path
    family: str
    name: str
    learn: Mapping[str, float | int]
    draw: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Width and height that the base model was trained at: its own setting, else from the UNet and the VAE.

        Raises:
            BaseProblem: a configuration file does not contain it.
        """
        if "size" in self.draw:
            return int(self.draw["size"])
        side = _read_json(self.path / "unet" / "config.json").get("sample_size")
        blocks = _read_json(self.path / "vae" / "config.json").get("block_out_channels", [64])
        if not isinstance(side, int) or not isinstance(blocks, list):
            raise BaseProblem(
                f"{self.path} does not contain its resolution: sample_size is {side!r}",
                hint=f'add "draw": {{"size": 512}} to {self.path / SETTINGS_FILE}',
            )
        return int(side * 2 ** (len(blocks) - 1))

    def draw_spec(self, size: int) -> DrawSpec:
        d = self.draw
        return DrawSpec(steps=int(d["steps"]), guidance=float(d["guidance"]), sampler=str(d["sampler"]), size=size)


def default_budget(*, kv_weights: int, denoiser_weights: int) -> float:
    """Share of the K/V weights that is `DENOISER_SHARE` of the denoiser: 0.058 on SD 1.5, 0.044 on SD 2.x."""
    return min(1.0, round(DENOISER_SHARE * denoiser_weights / kv_weights, 4))


def open_folder(path: Path) -> BaseFolder:
    """Read what a diffusers folder says of itself, without loading a weight.

    Raises:
        BaseProblem: no such folder, no pipeline in it, or a family that is not supported.
    """
    index = path / "model_index.json"
    if not path.is_dir():
        raise BaseProblem(f"no base at {path}", hint="give a local diffusers folder, or leave --base out for pocket")
    if not index.is_file():
        raise BaseProblem(f"{path} has no model_index.json", hint="give the top folder of a diffusers pipeline")
    kind = _read_json(index).get("_class_name")
    if kind not in FAMILIES:
        raise BaseProblem(
            f"{path} is a {kind}; supported are {', '.join(FAMILIES)}", hint="give a Stable Diffusion 1.x or 2.x folder"
        )
    settings = _read_json(path / SETTINGS_FILE) if (path / SETTINGS_FILE).is_file() else {}
    return BaseFolder(
        path=path,
        family=FAMILIES[str(kind)],
        name=_one_line(str(settings.get("name", path.resolve().name))),
        learn={**LEARN, **_numbers(path, settings, "learn", LEARN_LIMITS)},
        draw={**DRAW, **_numbers(path, settings, "draw", DRAW_LIMITS)},
    )


def _numbers(
    path: Path, settings: Mapping[str, Any], table: str, limits: Mapping[str, tuple[float, float]]
) -> Mapping[str, Any]:
    """The defaults that a base brings, each known and within its limits.

    Raises:
        BaseProblem: one is not.
    """
    where, found = path / SETTINGS_FILE, settings.get(table, {})
    if not isinstance(found, dict):
        raise BaseProblem(f"{where}: {table} is no table of defaults", hint="mend or remove it")
    for key, value in found.items():
        if key == "sampler" and table == "draw" and isinstance(value, str):
            continue  # named by its own check, when it is used
        if key not in limits:
            known = ", ".join([*limits, *(["sampler"] if table == "draw" else [])])
            raise BaseProblem(f"{where}: {table} has no {str(key)[:40]!r}", hint=f"it has {known}")
        low, high = limits[key]
        whole = isinstance(low, int) and isinstance(high, int)
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            raise BaseProblem(
                f"{where}: {table}.{key} is {str(value)[:40]!r}",
                hint=f"write a {'whole ' if whole else ''}number from {low:g} to {high:g}",
            )
    return found


def _one_line(text: str) -> str:
    """A name that a table can show."""
    return "".join(c if c.isprintable() else "?" for c in text)[:80] or "base"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise BaseProblem(f"{path} cannot be read: {err}", hint="restore the base's folder") from err
    if not isinstance(data, dict):
        raise BaseProblem(f"{path} is not a JSON object", hint="restore the base's folder")
    return data
