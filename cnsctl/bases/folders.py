"""Base folders on disk: recognising a family, and defaults that travel with a base.

Owns what a folder says about itself; must not know the libraries that load it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnsctl.errors import BaseProblem
from cnsctl.specs import DrawSpec

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
    "budget": 0.058,
    "lambda_prev": 0.05,
    "lambda_base": 0.002,
}
"""For bases that bring no settings: Custom Diffusion's 1e-5 × batch size and 250 steps. Untuned here."""

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

    def draw_spec(self, size: int) -> DrawSpec:
        d = self.draw
        return DrawSpec(steps=int(d["steps"]), guidance=float(d["guidance"]), sampler=str(d["sampler"]), size=size)


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
    try:
        return BaseFolder(
            path=path,
            family=FAMILIES[str(kind)],
            name=str(settings.get("name", path.resolve().name)),
            learn={**LEARN, **settings.get("learn", {})},
            draw={**DRAW, **settings.get("draw", {})},
        )
    except TypeError as err:
        raise BaseProblem(f"{path / SETTINGS_FILE} is not a table of defaults", hint="mend or remove it") from err


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise BaseProblem(f"{path} cannot be read: {err}", hint="restore the base's folder") from err
    if not isinstance(data, dict):
        raise BaseProblem(f"{path} is not a JSON object", hint="restore the base's folder")
    return data
