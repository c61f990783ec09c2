"""Samplers by short names; each takes the base's own noise schedule.

Owns the table of names; must not know pipelines.
"""

from __future__ import annotations

import json
from inspect import signature
from typing import TYPE_CHECKING, Any

from cnsctl.errors import UsageProblem

if TYPE_CHECKING:
    from pathlib import Path

OWN = "base"
"""The sampler that the base's folder names."""

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "heun": ("HeunDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def names() -> tuple[str, ...]:
    return (OWN, *SAMPLERS)


def check_sampler(name: str) -> str:
    """Refuse a name that is not in the table."""
    if name not in names():
        raise UsageProblem(f"no sampler is called {name!r}", hint=f"use one of: {', '.join(names())}")
    return name


def make(name: str, own: Any) -> Any:
    """A fresh scheduler: schedulers carry state from one run to the next, and a picture must not depend on it."""
    import diffusers

    check_sampler(name)
    if name == OWN:
        return type(own).from_config(own.config)
    class_name, changes = SAMPLERS[name]
    kind = getattr(diffusers, class_name)
    if own.config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in signature(kind.__init__).parameters:
        raise UsageProblem(
            f"{name} cannot follow this base's noise schedule", hint="use --sampler base, dpm++ or euler"
        )
    return kind.from_config(own.config, **changes)


def read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "scheduler_config.json").read_text(encoding="utf-8"))
    return config
