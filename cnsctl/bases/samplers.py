"""The scheduler class of each sampler; each takes the base model's own noise schedule.

Owns that table; must not know pipelines.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from cnsctl.bases.config_files import read_json
from cnsctl.bases.part_files import SCHEDULER_FILE
from cnsctl.errors import UsageError
from cnsctl.settings import Sampler

if TYPE_CHECKING:
    from pathlib import Path

SAMPLERS: dict[Sampler, tuple[str, dict[str, Any]]] = {
    Sampler.DPM: ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    Sampler.DPM_SDE: ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    Sampler.EULER: ("EulerDiscreteScheduler", {}),
    Sampler.EULER_A: ("EulerAncestralDiscreteScheduler", {}),
    Sampler.DDIM: ("DDIMScheduler", {"clip_sample": False}),
    Sampler.DDPM: ("DDPMScheduler", {"clip_sample": False}),
    Sampler.HEUN: ("HeunDiscreteScheduler", {}),
    Sampler.UNIPC: ("UniPCMultistepScheduler", {}),
}


def make(name: Sampler, own: Any) -> Any:
    """A new scheduler, because a scheduler keeps state between runs and an image must not depend on it."""
    import diffusers

    if name is Sampler.BASE:
        return type(own).from_config(own.config)
    class_name, changes = SAMPLERS[name]
    kind = getattr(diffusers, class_name)
    if own.config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in signature(kind.__init__).parameters:
        raise UsageError(f"sampler {name} does not support the noise schedule of this base model", reason="sampler")
    return kind.from_config(own.config, **changes)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a base model's own scheduler."""
    return read_json(folder / SCHEDULER_FILE)
