"""Samplers and noise schedules, under the names that people type.

Each sampler is declared once: its name here, its scheduler class in diffusers, and what other tools call it. A name may
end with a noise schedule: "DPM++ 2M Karras" is the sampler `dpm++2m` with `sigmas` `karras`.

Owns these names; must not know diffusers itself or what a scheduler computes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Sampler(StrEnum):
    """Names of the samplers."""

    BASE = "base"
    """The base model's own."""
    DPM_2M = "dpm++2m"
    DPM_2M_SDE = "dpm++2m-sde"
    DPM_3M_SDE = "dpm++3m-sde"
    DPM_2S = "dpm++2s"
    DPM_SDE = "dpm++sde"
    EULER = "euler"
    EULER_A = "euler-a"
    HEUN = "heun"
    DPM2 = "dpm2"
    DPM2_A = "dpm2-a"
    LMS = "lms"
    UNIPC = "unipc"
    DEIS = "deis"
    PNDM = "pndm"
    DDIM = "ddim"
    DDPM = "ddpm"
    LCM = "lcm"


class Sigmas(StrEnum):
    """How the noise levels of the steps are spread."""

    DEFAULT = "default"
    """As the scheduler's configuration says."""
    KARRAS = "karras"
    EXPONENTIAL = "exponential"
    BETA = "beta"


class Spacing(StrEnum):
    """Which of the training times the steps use."""

    DEFAULT = "default"
    """As the scheduler's configuration says."""
    LEADING = "leading"
    TRAILING = "trailing"
    LINSPACE = "linspace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a sampler is in diffusers, and elsewhere."""

    scheduler: str
    """Class in diffusers."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the class that make it this sampler; the rest comes from the base model's scheduler."""
    names: tuple[str, ...] = ()
    """Other names; case, spaces, `_`, `-`, a leading `k_`, and pp for ++ do not matter."""
    ignores: tuple[str, ...] = ()
    """Settings that the class accepts and does not use."""


SAMPLERS: Mapping[Sampler, Declared] = {
    Sampler.DPM_2M: Declared(
        scheduler="DPMSolverMultistepScheduler",
        changes={"algorithm_type": "dpmsolver++", "solver_order": 2},
        names=("dpm++", "dpm++ multistep"),
    ),
    Sampler.DPM_2M_SDE: Declared(
        scheduler="DPMSolverMultistepScheduler", changes={"algorithm_type": "sde-dpmsolver++", "solver_order": 2}
    ),
    Sampler.DPM_3M_SDE: Declared(
        scheduler="DPMSolverMultistepScheduler", changes={"algorithm_type": "sde-dpmsolver++", "solver_order": 3}
    ),
    Sampler.DPM_2S: Declared(
        scheduler="DPMSolverSinglestepScheduler", changes={"algorithm_type": "dpmsolver++", "solver_order": 2}
    ),
    Sampler.DPM_SDE: Declared(
        scheduler="DPMSolverSinglestepScheduler",
        changes={"algorithm_type": "sde-dpmsolver++", "solver_order": 2},
        names=("DPMSolverSDEScheduler",),
    ),
    Sampler.EULER: Declared(scheduler="EulerDiscreteScheduler"),
    Sampler.EULER_A: Declared(scheduler="EulerAncestralDiscreteScheduler"),
    Sampler.HEUN: Declared(scheduler="HeunDiscreteScheduler"),
    Sampler.DPM2: Declared(scheduler="KDPM2DiscreteScheduler", names=("kdpm2",)),
    Sampler.DPM2_A: Declared(scheduler="KDPM2AncestralDiscreteScheduler", names=("kdpm2 a",)),
    Sampler.LMS: Declared(scheduler="LMSDiscreteScheduler"),
    Sampler.UNIPC: Declared(scheduler="UniPCMultistepScheduler", names=("uni_pc_bh2",)),
    Sampler.DEIS: Declared(scheduler="DEISMultistepScheduler"),
    Sampler.PNDM: Declared(scheduler="PNDMScheduler", changes={"skip_prk_steps": True}, names=("plms",)),
    Sampler.DDIM: Declared(scheduler="DDIMScheduler", changes={"clip_sample": False}),
    Sampler.DDPM: Declared(scheduler="DDPMScheduler", changes={"clip_sample": False}),
    Sampler.LCM: Declared(scheduler="LCMScheduler", changes={"clip_sample": False}, ignores=("timestep_spacing",)),
}
"""Every sampler but `base`."""

SIGMAS_KEY: Mapping[Sigmas, str] = {
    Sigmas.KARRAS: "use_karras_sigmas",
    Sigmas.EXPONENTIAL: "use_exponential_sigmas",
    Sigmas.BETA: "use_beta_sigmas",
}
"""The key of each in a scheduler's configuration."""

SPACING_KEY = "timestep_spacing"
"""The key of the spacing in a scheduler's configuration."""

_LONGEST = 80
"""Characters of a name that is read."""

_ENDS: Mapping[str, tuple[str, StrEnum]] = {
    r"karras": ("sigmas", Sigmas.KARRAS),
    r"k(?<=_k)": ("sigmas", Sigmas.KARRAS),  # InvokeAI: dpmpp_2m_k
    r"exponential": ("sigmas", Sigmas.EXPONENTIAL),
    r"beta": ("sigmas", Sigmas.BETA),
    r"sgm[\s_-]?uniform": ("spacing", Spacing.TRAILING),
}
"""Noise schedules at the end of a name: a pattern, and the setting and its value."""


def read_sampler(name: object) -> Mapping[str, str]:
    """The settings that a name of a sampler means, or an empty mapping if it is unknown.

    "DPM++ 2M Karras" gives `sampler` and `sigmas`; "Euler a" gives `sampler` alone.
    """
    if not isinstance(name, str) or len(name) > _LONGEST:
        return {}
    found: dict[str, str] = {}
    text = name.strip()
    for end, (setting, value) in _ENDS.items():
        if m := re.fullmatch(rf"(.*?)[\s_(-]*{end}\)?", text, re.IGNORECASE | re.DOTALL):
            text, found = m[1], {setting: value}
            break
    sampler = _by_key().get(_key(text))
    return {} if sampler is None else {"sampler": sampler, **found}


def near_samplers(name: str) -> list[str]:
    """The samplers whose names are most similar, each once."""
    from difflib import get_close_matches

    keys = _by_key()
    return list(dict.fromkeys(str(keys[k]) for k in get_close_matches(_key(name[:_LONGEST]), keys, n=3)))


@cache
def _by_key() -> Mapping[str, Sampler]:
    found = {str(Sampler.BASE): Sampler.BASE}
    for sampler, declared in SAMPLERS.items():
        for name in (str(sampler), *declared.names, declared.scheduler):
            found.setdefault(_key(name), sampler)
    return found


def _key(name: str) -> str:
    """What spellings of one name have in common."""
    text = re.sub(r"^(sample|k)[\s_-]", "", name.strip().lower())
    text = re.sub(r"[\s_-]gpu$|scheduler$", "", text).replace("++", "pp").replace("ancestral", "a")
    return re.sub(r"[\s_.-]", "", text)
