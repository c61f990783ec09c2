"""Base models that were distilled to a few steps (Turbo, Lightning, Hyper, LCM), by what their folder says.

Weights do not say how many steps they were trained for. The scheduler and the name do.

Owns that guess; must not know how anything is loaded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STEPS = 4
"""Inference steps of a distilled model whose name contains no number of steps."""

_OF_DISTILLED = ("LCMScheduler", "TCDScheduler")
"""Schedulers that only distilled models use."""

_NAMED = re.compile(r"turbo|lightning|hyper|(?<![a-z])(?:lcm|tcd|dmd2?)(?![a-z])", re.IGNORECASE)
_N_STEPS = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?", re.IGNORECASE)


class Distilled(NamedTuple):
    """What a distilled model generates with."""

    steps: int
    why: str
    """What says so: "its scheduler is LCMScheduler"."""

    @property
    def generate(self) -> dict[str, Any]:
        """Fields of `GenerateSettings`."""
        return {"steps": self.steps, "guidance_scale": 1.0}


def distilled(scheduler: Mapping[str, Any], names: Iterable[object]) -> Distilled | None:
    """Whether a base model looks distilled.

    Args:
        scheduler: the configuration of its scheduler, with its class.
        names: of the base model: its folder's, its repository's.
    """
    kind, spacing = scheduler.get("_class_name"), scheduler.get("timestep_spacing")
    texts = [name for name in names if isinstance(name, str)]
    steps = next((int(found[1]) for text in texts if (found := _N_STEPS.search(text))), STEPS)
    if kind in _OF_DISTILLED:
        return Distilled(steps, f"its scheduler is {kind}")
    named = next((text for text in texts if _NAMED.search(text)), None)
    if named is not None and spacing == "trailing":
        return Distilled(steps, f"it is named {named!r}, and its scheduler counts steps from the end")
    return None
