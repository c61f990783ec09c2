"""Several processes of one command, started by `accelerate launch`: which of them this is.

Each process loads the base model on its own device and does its share of the images or concepts, or of each training step.
The main process alone writes the store and prints.

Owns the step from the environment to `engine.processes`; must not know what is shared.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cnsctl.app.environment import refuse_unfit
from cnsctl.settings import ComputeSettings, Device, complete

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnsctl.engine.processes import Processes


def are_several() -> bool:
    """Whether a launcher has started several processes."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") not in {"", "1"}


def is_main() -> bool:
    """Whether this process writes the store and prints."""
    return not are_several() or os.environ["RANK"] == "0"


def together(compute: Mapping[str, Any]) -> Processes:
    """This process among those that work together; alone without a launcher, and then accelerate is not imported.

    Args:
        compute: fields of `ComputeSettings` that the user gave.
    """
    refuse_unfit()
    from cnsctl.engine.processes import ALONE, Processes

    if not are_several():
        return ALONE
    from cnsctl.bases.launch import connected

    where: ComputeSettings = complete(ComputeSettings, {}, compute)
    index, count = connected(cpu=where.device == Device.CPU)
    return Processes(index=index, count=count)
